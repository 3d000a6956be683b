//! Directives with a form of their own: lists, tables and addresses.
//!
//! Each is a small type with typed fields for the rooms that use it, and a [`Setting`] that knows
//! its grammar. They are plain data like every other row; a hook with access to the server (as
//! Redis's special directives have) would let parsing do things, and parsing only describes.

use super::quote::quote;
use super::value::{Kind, Line, Reason, Setting, Source, Text, int, lenient_integer, only};
use super::value::{WRONG_COUNT, bytes, with_unit};

/// The rule of these rows: the type says it all.
pub const OWN_FORM: () = ();

fn joined<T>(items: &[T], one: impl Fn(&T) -> String) -> Vec<u8> {
    items.iter().map(one).collect::<Vec<String>>().join(" ").into_bytes()
}

// ------------------------------------------------------------------------------------- threads

/// How many threads serve clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadCount {
    /// As many as there are processors for, within reason.
    Auto,
    Fixed(u32),
}

impl ThreadCount {
    const MAX: u32 = 128;
    /// One executor has nothing to do for more.
    const AUTO_MAX: usize = 8;

    /// How many that is where there are so many processors.
    pub fn resolve(self, processors: usize) -> usize {
        match self {
            ThreadCount::Auto => processors.clamp(1, ThreadCount::AUTO_MAX),
            ThreadCount::Fixed(count) => count as usize,
        }
    }
}

impl Setting for ThreadCount {
    type Rule = ();

    fn parse((): &(), args: &[&[u8]], _: &Self, source: Source) -> Result<Self, Reason> {
        let text = only(args)?;
        if text.eq_ignore_ascii_case(b"auto") {
            return Ok(ThreadCount::Auto);
        }
        let rule = int(1, ThreadCount::MAX.into());
        <u32 as Setting>::parse(&rule, args, &1, source).map(ThreadCount::Fixed)
    }

    fn print(&self, (): &()) -> Vec<u8> {
        match self {
            ThreadCount::Auto => b"auto".to_vec(),
            ThreadCount::Fixed(count) => count.to_string().into_bytes(),
        }
    }

    fn kind((): &()) -> Kind {
        Kind::Special("1-128|auto")
    }
}

// ---------------------------------------------------------------------------------------- save

/// A snapshot is due when `changes` writes happened within `seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    pub seconds: u64,
    pub changes: u64,
}

/// The `save` directive. Lines of one load add up; `save ""` drops what came before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavePoints(pub Vec<SavePoint>);

impl Default for SavePoints {
    fn default() -> Self {
        let point = |(seconds, changes)| SavePoint { seconds, changes };
        Self([(3600, 1), (300, 100), (60, 10_000)].map(point).to_vec())
    }
}

impl Setting for SavePoints {
    type Rule = ();
    const MULTI: bool = true;

    fn parse((): &(), args: &[&[u8]], current: &Self, source: Source) -> Result<Self, Reason> {
        let invalid = || Reason::from("Invalid save parameters");
        if let [[]] = args {
            return Ok(Self(Vec::new()));
        }
        let mut points = match source {
            Source::File { repeated: true } => current.0.clone(),
            _ => Vec::new(),
        };
        let (pairs, []) = args.as_chunks::<2>() else { return Err(invalid()) };
        for [seconds, changes] in pairs {
            let number = |text| u64::try_from(lenient_integer(text)?).ok();
            let seconds = number(seconds).filter(|seconds| *seconds > 0).ok_or_else(invalid)?;
            points.push(SavePoint { seconds, changes: number(changes).ok_or_else(invalid)? });
        }
        Ok(Self(points))
    }

    fn print(&self, (): &()) -> Vec<u8> {
        joined(&self.0, |point| format!("{} {}", point.seconds, point.changes))
    }

    fn kind((): &()) -> Kind {
        Kind::Special("<seconds> <changes> [<seconds> <changes> ...]")
    }

    /// A line a point. They are always written, for without them the defaults would come back.
    fn lines(&self, rule: &(), _: &Self) -> Vec<Line> {
        let line = |arguments| Line { arguments, forced: true };
        if self.0.is_empty() {
            return vec![line(b"\"\"".to_vec())];
        }
        self.0.iter().map(|point| line(Self(vec![*point]).print(rule))).collect()
    }
}

// ---------------------------------------------------------------------------------------- bind

const MAX_BIND_ADDRESSES: usize = 16;

/// The `bind` directive: addresses as written; a leading `-` means it may fail to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindAddresses(pub Vec<Text>);

impl Default for BindAddresses {
    fn default() -> Self {
        Self(vec!["*".into(), "-::*".into()])
    }
}

impl Setting for BindAddresses {
    type Rule = ();
    const MULTI: bool = true;

    fn parse((): &(), args: &[&[u8]], _: &Self, _: Source) -> Result<Self, Reason> {
        if args.len() > MAX_BIND_ADDRESSES {
            return Err("Too many bind addresses specified.".into());
        }
        if let [[]] = args {
            return Ok(Self(Vec::new()));
        }
        Ok(Self(args.iter().map(|address| Text::from(*address)).collect()))
    }

    fn print(&self, (): &()) -> Vec<u8> {
        self.0.iter().map(Text::as_bytes).collect::<Vec<_>>().join(&b' ')
    }

    fn kind((): &()) -> Kind {
        Kind::Special("<address> [<address> ...]")
    }

    fn lines(&self, rule: &(), default: &Self) -> Vec<Line> {
        if self == default {
            return Vec::new();
        }
        let arguments = if self.0.is_empty() { b"\"\"".to_vec() } else { self.print(rule) };
        vec![Line { arguments, forced: true }]
    }
}

// ------------------------------------------------------------------ client-output-buffer-limit

/// When a client is cut off for not reading its replies. Zero means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OutputLimit {
    pub hard_bytes: u64,
    pub soft_bytes: u64,
    pub soft_seconds: u64,
}

/// The `client-output-buffer-limit` directive. A line changes only the classes it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputLimits {
    pub normal: OutputLimit,
    pub replica: OutputLimit,
    pub pubsub: OutputLimit,
}

impl Default for OutputLimits {
    fn default() -> Self {
        let limit = |hard_mb: u64, soft_mb: u64| OutputLimit {
            hard_bytes: hard_mb << 20,
            soft_bytes: soft_mb << 20,
            soft_seconds: 60,
        };
        Self { normal: OutputLimit::default(), replica: limit(256, 64), pubsub: limit(32, 8) }
    }
}

impl OutputLimits {
    fn class(&mut self, name: &[u8]) -> Option<&mut OutputLimit> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Some(&mut self.normal),
            b"slave" | b"replica" => Some(&mut self.replica),
            b"pubsub" => Some(&mut self.pubsub),
            _ => None,
        }
    }
}

impl Setting for OutputLimits {
    type Rule = ();
    const MULTI: bool = true;

    fn parse((): &(), args: &[&[u8]], current: &Self, _: Source) -> Result<Self, Reason> {
        let (groups, []) = args.as_chunks::<4>() else {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        };
        let mut limits = current.clone();
        for [class, hard, soft, seconds] in groups {
            let Some(limit) = limits.class(class) else {
                return Err("Invalid client class specified in buffer limit configuration.".into());
            };
            let seconds = lenient_integer(seconds).and_then(|seconds| u64::try_from(seconds).ok());
            let (Some(hard_bytes), Some(soft_bytes), Some(soft_seconds)) =
                (bytes(hard), bytes(soft), seconds)
            else {
                return Err("Error in hard, soft or soft_seconds setting in buffer limit \
                            configuration."
                    .into());
            };
            *limit = OutputLimit { hard_bytes, soft_bytes, soft_seconds };
        }
        Ok(limits)
    }

    fn print(&self, (): &()) -> Vec<u8> {
        let classes = [("normal", self.normal), ("slave", self.replica), ("pubsub", self.pubsub)];
        joined(&classes, |(name, limit)| {
            format!("{name} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
        })
    }

    fn kind((): &()) -> Kind {
        Kind::Special("<class> <hard limit> <soft limit> <soft seconds> [...]")
    }

    /// All classes or none: Redis writes those that differ, and then the lines of a file change
    /// places with every rewrite.
    fn lines(&self, (): &(), default: &Self) -> Vec<Line> {
        let line = |name: &str, limit: OutputLimit| {
            let mut arguments = format!("{name} ").into_bytes();
            arguments.extend(with_unit(i128::from(limit.hard_bytes)));
            arguments.push(b' ');
            arguments.extend(with_unit(i128::from(limit.soft_bytes)));
            arguments.extend(format!(" {}", limit.soft_seconds).into_bytes());
            Line { arguments, forced: self != default }
        };
        vec![
            line("normal", self.normal),
            line("replica", self.replica),
            line("pubsub", self.pubsub),
        ]
    }
}

// ------------------------------------------------------------------------ oom-score-adj-values

/// The `oom-score-adj-values` directive: primary, replica, background child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomScores(pub [i32; 3]);

impl Default for OomScores {
    fn default() -> Self {
        Self([0, 200, 800])
    }
}

impl OomScores {
    /// An unprivileged process may only raise its score, so the values should not descend.
    pub fn descends(&self) -> bool {
        !self.0.is_sorted()
    }
}

impl Setting for OomScores {
    type Rule = ();
    const MULTI: bool = true;

    fn parse((): &(), args: &[&[u8]], _: &Self, _: Source) -> Result<Self, Reason> {
        let args: &[&[u8]; 3] = args.try_into().map_err(|_| Reason::from(WRONG_COUNT))?;
        let mut scores = [0; 3];
        for (score, arg) in scores.iter_mut().zip(args) {
            let value = lenient_integer(arg).filter(|value| (-2000..=2000).contains(value));
            let Some(value) = value.and_then(|value| i32::try_from(value).ok()) else {
                return Err("Invalid oom-score-adj-values, elements must be between -2000 and \
                            2000."
                    .into());
            };
            *score = value;
        }
        Ok(Self(scores))
    }

    fn print(&self, (): &()) -> Vec<u8> {
        joined(&self.0, i32::to_string)
    }

    fn kind((): &()) -> Kind {
        Kind::Special("<primary> <replica> <background>")
    }
}

// ----------------------------------------------------------- latency-tracking-info-percentiles

/// The `latency-tracking-info-percentiles` directive, each between 0 and 100.
#[derive(Clone, Debug, PartialEq)]
pub struct Percentiles(pub Vec<f64>);

impl Default for Percentiles {
    fn default() -> Self {
        Self(vec![50.0, 99.0, 99.9])
    }
}

impl Setting for Percentiles {
    type Rule = ();
    const MULTI: bool = true;

    fn parse((): &(), args: &[&[u8]], _: &Self, _: Source) -> Result<Self, Reason> {
        if let [[]] = args {
            return Ok(Self(Vec::new()));
        }
        let mut percentiles = Vec::new();
        for arg in args {
            let number = std::str::from_utf8(arg).ok().and_then(|text| text.parse::<f64>().ok());
            let Some(percentile) = number.filter(|number| !number.is_nan()) else {
                return Err("Invalid latency-tracking-info-percentiles parameters".into());
            };
            if !(0.0..=100.0).contains(&percentile) {
                return Err("latency-tracking-info-percentiles parameters should sit between \
                            [0.0,100.0]"
                    .into());
            }
            percentiles.push(percentile);
        }
        Ok(Self(percentiles))
    }

    fn print(&self, (): &()) -> Vec<u8> {
        joined(&self.0, |percentile| {
            let text = format!("{percentile:.6}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        })
    }

    fn kind((): &()) -> Kind {
        Kind::Special("<percentile> [<percentile> ...]")
    }

    /// Written even if they are the default, as Redis does.
    fn lines(&self, rule: &(), _: &Self) -> Vec<Line> {
        let arguments = if self.0.is_empty() { b"\"\"".to_vec() } else { self.print(rule) };
        vec![Line { arguments, forced: true }]
    }
}

// ----------------------------------------------------------------------------------- replicaof

/// The `replicaof` directive: where the primary is, if this server starts as a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryAddress {
    pub host: Text,
    pub port: u16,
}

impl Setting for Option<PrimaryAddress> {
    type Rule = ();
    const MULTI: bool = true;

    fn parse((): &(), args: &[&[u8]], _: &Self, _: Source) -> Result<Self, Reason> {
        let [host, port] = args else { return Err(WRONG_COUNT.into()) };
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            return Ok(None);
        }
        match lenient_integer(port).and_then(|port| u16::try_from(port).ok()) {
            Some(port) => Ok(Some(PrimaryAddress { host: Text::from(*host), port })),
            None => Err("Invalid master port".into()),
        }
    }

    fn print(&self, (): &()) -> Vec<u8> {
        self.as_ref().map(|at| format!("{} {}", at.host, at.port).into_bytes()).unwrap_or_default()
    }

    fn kind((): &()) -> Kind {
        Kind::Special("<host> <port>")
    }

    fn lines(&self, rule: &(), _: &Self) -> Vec<Line> {
        let line = |_: &PrimaryAddress| Line { arguments: self.print(rule), forced: true };
        self.iter().map(line).collect()
    }
}

// ----------------------------------------------------------------------------------------- dir

/// The `dir` directive. Loading makes it absolute; after CONFIG SET it is as the user wrote it
/// until the engine has changed directory and put the absolute path here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkingDirectory(pub Text);

impl Default for WorkingDirectory {
    fn default() -> Self {
        Self("./".into())
    }
}

impl Setting for WorkingDirectory {
    type Rule = ();

    fn parse((): &(), args: &[&[u8]], _: &Self, _: Source) -> Result<Self, Reason> {
        let path = only(args)?;
        if path.is_empty() {
            return Err("dir can't be empty".into());
        }
        Ok(Self(Text::from(path)))
    }

    fn print(&self, (): &()) -> Vec<u8> {
        self.0.as_bytes().to_vec()
    }

    fn kind((): &()) -> Kind {
        Kind::Special("<directory>")
    }

    /// Always written: a server restarted from elsewhere must find its files again.
    fn lines(&self, (): &(), _: &Self) -> Vec<Line> {
        vec![Line { arguments: quote(self.0.as_bytes()), forced: true }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets a value as CONFIG SET does: split at spaces, nothing at all if empty.
    fn set<S: Setting<Rule = ()>>(current: &S, value: &str) -> Result<String, String> {
        let args: Vec<&[u8]> = match value {
            "" => Vec::new(),
            value => value.split(' ').map(str::as_bytes).collect(),
        };
        let parsed = S::parse(&(), &args, current, Source::Command);
        let parsed = parsed.map_err(|reason| reason.into_owned())?;
        Ok(String::from_utf8(parsed.print(&())).expect("test values are UTF-8"))
    }

    #[test]
    fn save_points() {
        let points = SavePoints::default();
        assert_eq!(points.print(&()), b"3600 1 300 100 60 10000");
        for (value, expected) in [("", ""), ("900 1", "900 1"), ("1 0 2 3", "1 0 2 3")] {
            assert_eq!(set(&points, value).unwrap(), expected);
        }
        for value in ["1", "0 1", "1 -1", "-1 1", "a 1", "1 a", "1  2", "1 2 3", "1 2 "] {
            assert_eq!(set(&points, value).unwrap_err(), "Invalid save parameters", "{value}");
        }
        let empty = SavePoints(Vec::new());
        assert_eq!(empty.lines(&(), &points)[0].arguments, b"\"\"");
    }

    #[test]
    fn bind_addresses() {
        let default = BindAddresses::default();
        assert_eq!(default.print(&()), b"* -::*");
        assert_eq!(set(&default, "127.0.0.1 -::1").unwrap(), "127.0.0.1 -::1");
        assert_eq!(set(&default, "").unwrap(), "");
        let many = vec!["a"; 17].join(" ");
        assert_eq!(set(&default, &many).unwrap_err(), "Too many bind addresses specified.");
        assert_eq!(default.lines(&(), &default), []);
        assert_eq!(BindAddresses(Vec::new()).lines(&(), &default)[0].arguments, b"\"\"");
    }

    #[test]
    fn output_limits() {
        let limits = OutputLimits::default();
        let shown = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        assert_eq!(limits.print(&()), shown.as_bytes());
        assert_eq!(set(&limits, shown).unwrap(), shown);
        assert_eq!(set(&limits, "").unwrap(), shown);
        let normal = set(&limits, "NORMAL 1kb 1 2").unwrap();
        assert!(normal.starts_with("normal 1024 1 2 slave"), "{normal}");
        for (value, reason) in [
            ("normal 1 2", "Wrong number of arguments in buffer limit configuration."),
            ("master 1 2 3", "Invalid client class specified in buffer limit configuration."),
            ("nosuch 1 2 3", "Invalid client class specified in buffer limit configuration."),
            (
                "normal x 2 3",
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
            ),
            (
                "normal 1 2 -3",
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
            ),
        ] {
            assert_eq!(set(&limits, value).unwrap_err(), reason, "{value}");
        }
    }

    #[test]
    fn oom_scores() {
        let scores = OomScores::default();
        assert_eq!(scores.print(&()), b"0 200 800");
        assert_eq!(set(&scores, "-2000 0 2000").unwrap(), "-2000 0 2000");
        for value in ["", "1", "1 2", "1 2 3 4"] {
            assert_eq!(set(&scores, value).unwrap_err(), "wrong number of arguments");
        }
        for value in ["1 2 2001", "1 -2001 3", "a 1 2"] {
            assert_eq!(
                set(&scores, value).unwrap_err(),
                "Invalid oom-score-adj-values, elements must be between -2000 and 2000."
            );
        }
        assert!(OomScores([3, 2, 9]).descends() && !scores.descends());
    }

    #[test]
    fn percentiles() {
        let default = Percentiles::default();
        assert_eq!(default.print(&()), b"50 99 99.9");
        for (value, expected) in [("", ""), ("0.0 100", "0 100"), ("99.99", "99.99"), ("1e1", "10")]
        {
            assert_eq!(set(&default, value).unwrap(), expected);
        }
        for value in ["a", "1 a", "1  2", "nan"] {
            let expected = "Invalid latency-tracking-info-percentiles parameters";
            assert_eq!(set(&default, value).unwrap_err(), expected);
        }
        for value in ["-1", "100.1", "inf"] {
            let expected =
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]";
            assert_eq!(set(&default, value).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_primary_is_a_host_and_a_port() {
        let none: Option<PrimaryAddress> = None;
        assert_eq!(set(&none, "h 1").unwrap(), "h 1");
        assert_eq!(set(&none, "no one").unwrap(), "");
        for value in ["h x", "h -1", "h 65536", "h "] {
            assert_eq!(set(&none, value).unwrap_err(), "Invalid master port", "{value}");
        }
        assert_eq!(set(&none, "h").unwrap_err(), "wrong number of arguments");
    }
}
