//! Values of modules: nobody here can read them, but whose they are can be told, and where they
//! end.
//!
//! A module's type is a number: nine characters of six bits, then ten bits of a version.

use super::Decoder;
use crate::persist::rdb::error::RdbError;

const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const NAME_LEN: u32 = 9;
const VERSION_BITS: u32 = 10;

/// What the parts of a module's value begin with.
const END: u64 = 0;
const SIGNED: u64 = 1;
const UNSIGNED: u64 = 2;
const FLOAT: u64 = 3;
const DOUBLE: u64 = 4;
const STRING: u64 = 5;

impl Decoder<'_> {
    pub(super) fn module_name(&mut self) -> Result<String, RdbError> {
        Ok(name_of(self.input.length()?))
    }

    /// Passes over the record of a module beside the keys; the name of its type.
    pub fn module_aux(&mut self) -> Result<String, RdbError> {
        let name = self.module_name()?;
        if self.input.length()? != UNSIGNED {
            return Err(RdbError::Corrupt("bad when_opcode"));
        }
        self.input.length()?;
        self.skip_parts()?;
        Ok(name)
    }

    /// Passes over the value of a module's type.
    pub fn skip_module(&mut self) -> Result<(), RdbError> {
        self.input.length()?;
        self.skip_parts()
    }

    fn skip_parts(&mut self) -> Result<(), RdbError> {
        loop {
            match self.input.length()? {
                END => return Ok(()),
                SIGNED | UNSIGNED => {
                    self.input.length()?;
                }
                FLOAT => {
                    self.input.array::<4>()?;
                }
                DOUBLE => {
                    self.input.array::<8>()?;
                }
                STRING => {
                    self.input.string(&mut self.scratch)?;
                }
                _ => return Err(RdbError::Corrupt("Module value with an unknown opcode")),
            }
        }
    }
}

fn name_of(id: u64) -> String {
    let characters = (0..NAME_LEN).rev().map(|place| {
        let index = id >> (VERSION_BITS + 6 * place) & 0x3f;
        char::from(CHARACTERS[index as usize])
    });
    characters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_nine_characters() {
        let index = |byte| CHARACTERS.iter().position(|own| *own == byte).expect("it is one");
        let id = b"ReJSON-RL".iter().fold(0, |id, byte| id << 6 | index(*byte) as u64);
        assert_eq!(name_of(id << VERSION_BITS | 3), "ReJSON-RL");
        assert_eq!(name_of(0), "AAAAAAAAA");
    }
}
