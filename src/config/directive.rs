//! What a row of the table is once it is data: [`Directive`], its flags, and what applying means.
//!
//! The `directives!` macro turns the rows of `table.rs` into the fields of `Config`, its default,
//! and one static `Directive` each. The macro is there because a field and its row must not be
//! two edits; everything it generates is plain data and one-line functions without captures.

use std::fmt;

use super::Config;
use super::value::{Kind, Line, Reason, Source};

/// What has to be done when CONFIG SET has changed a directive, besides deriving again what the
/// engine derives from the configuration as a whole. It is done in this order, each act once
/// however many directives ask for it; `config/commands.rs` says how, for every one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Apply {
    /// Readers look at the field itself each time, or the feature does not exist yet.
    Nothing,
    /// Change directory, then store the absolute path in `config.dir`.
    Directory,
    /// Check that the process may open that many files.
    Clients,
    /// Have the server's log written as it is said now.
    Log,
    /// Give the default user its password.
    Password,
    /// Evict, or stop evicting.
    MaxMemory,
    /// Delete history files that had been kept.
    AofHistory,
    /// Begin or end the append-only file.
    AppendOnly,
    /// Read certificates and keys, and speak TLS by them, if it is spoken at all.
    Tls,
    /// Open the new TCP listeners, then close the old ones.
    Listen,
}

/// When a directive may be changed and who sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u8);

/// Can be changed while the server runs.
pub const LIVE: Flags = Flags(0);
/// Only a file or the command line can set it.
pub const FIXED: Flags = Flags(Flags::FIXED);

impl Flags {
    const FIXED: u8 = 1;
    const PROTECTED: u8 = 1 << 1;
    const SENSITIVE: u8 = 1 << 2;
    const HIDDEN: u8 = 1 << 3;
    const NOT_LOADING: u8 = 1 << 4;
    const VOLATILE: u8 = 1 << 5;
    const LATER: u8 = 1 << 6;

    /// CONFIG SET needs the permission of `enable-protected-configs`.
    pub const fn protected(self) -> Self {
        Self(self.0 | Self::PROTECTED)
    }
    /// The value is a secret: kept out of MONITOR, the slow log and logs.
    pub const fn sensitive(self) -> Self {
        Self(self.0 | Self::SENSITIVE)
    }
    /// CONFIG GET shows it only when asked by its exact name.
    pub const fn hidden(self) -> Self {
        Self(self.0 | Self::HIDDEN)
    }
    /// Cannot be changed while a data set is being loaded.
    pub const fn not_loading(self) -> Self {
        Self(self.0 | Self::NOT_LOADING)
    }
    /// Applied even if the value stays the same, because what it names may have changed.
    pub const fn volatile(self) -> Self {
        Self(self.0 | Self::VOLATILE)
    }
    /// Accepted and kept, but the feature it steers does not exist in Rufous yet.
    pub const fn later(self) -> Self {
        Self(self.0 | Self::LATER)
    }
    const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }
}

/// Reads arguments into the directive's field.
pub(super) type Assign = fn(&mut Config, &[&[u8]], Source) -> Result<(), Reason>;

/// One configuration directive.
pub struct Directive {
    pub name: &'static str,
    /// The other name it is known by, printed by CONFIG GET when asked for or matched.
    pub alias: Option<&'static str>,
    pub section: &'static str,
    pub doc: &'static str,
    pub flags: Flags,
    pub apply: Apply,
    /// True if one line may carry several arguments.
    pub multi: bool,
    pub(super) kind: fn() -> Kind,
    pub(super) assign: Assign,
    pub(super) print: fn(&Config) -> Vec<u8>,
    pub(super) lines: fn(&Config, &Config) -> Vec<Line>,
    pub(super) equal: fn(&Config, &Config) -> bool,
    #[cfg(test)]
    pub(super) field: &'static str,
}

impl fmt::Debug for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Directive {
    pub fn kind(&self) -> Kind {
        (self.kind)()
    }

    /// The value as CONFIG GET shows it.
    pub fn print(&self, config: &Config) -> Vec<u8> {
        (self.print)(config)
    }

    pub fn is_fixed(&self) -> bool {
        self.flags.has(Flags::FIXED)
    }
    pub fn is_protected(&self) -> bool {
        self.flags.has(Flags::PROTECTED)
    }
    pub fn is_sensitive(&self) -> bool {
        self.flags.has(Flags::SENSITIVE)
    }
    pub fn is_hidden(&self) -> bool {
        self.flags.has(Flags::HIDDEN)
    }
    pub fn is_denied_while_loading(&self) -> bool {
        self.flags.has(Flags::NOT_LOADING)
    }
    pub fn is_volatile(&self) -> bool {
        self.flags.has(Flags::VOLATILE)
    }
    pub fn is_later(&self) -> bool {
        self.flags.has(Flags::LATER)
    }
}

/// Turns rows into `Config`, its default and `DIRECTIVES`. A row is
/// `"name" | "alias" => field: Type = default; rule, flags, Apply, "doc";`.
macro_rules! directives {
    ($(section $section:literal { $(
        $name:literal $(| $alias:literal)? => $field:ident : $type:ty = $default:expr;
            $rule:expr, $flags:expr, $apply:ident, $doc:literal;
    )+ })+) => {
        /// The whole configuration, one field a directive, named like it.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $($( #[doc = $doc] pub $field: $type, )+)+
            /// The directives that only a file can hold.
            pub file_only: $crate::config::FileOnly,
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($( $field: $default, )+)+ file_only: Default::default() }
            }
        }

        /// Every directive, in the order of the example file.
        pub static DIRECTIVES: &[Directive] = &[$($({
            const RULE: &<$type as Setting>::Rule = &$rule;
            Directive {
                name: $name,
                alias: [$(Some($alias),)? None][0],
                section: $section,
                doc: $doc,
                flags: $flags,
                apply: Apply::$apply,
                multi: <$type as Setting>::MULTI,
                kind: || <$type as Setting>::kind(RULE),
                assign: |config, args, source| {
                    config.$field = Setting::parse(RULE, args, &config.$field, source)?;
                    Ok(())
                },
                print: |config| Setting::print(&config.$field, RULE),
                lines: |config, default| Setting::lines(&config.$field, RULE, &default.$field),
                equal: |one, other| one.$field == other.$field,
                #[cfg(test)]
                field: stringify!($field),
            }
        }),+),+];
    };
}

pub(super) use directives;
