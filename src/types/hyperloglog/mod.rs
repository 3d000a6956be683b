//! HyperLogLogs: strings that estimate how many different elements were added to them.
//!
//! ```text
//! "HYLL" | encoding u8 (0 dense, 1 sparse) | 3 zeros | cardinality u64, little-endian | registers
//! ```
//! The top bit of the cardinality says that it is out of date. There are 16384 registers of 6 bits:
//! packed ([`dense`]), or as runs while that is short ([`sparse`]). The layout is Redis's to the
//! byte, because the string can be read, written and replicated like any other; for the same reason
//! a sketch may hold anything, and every reader checks it as it goes. A type of its own was
//! refused: GET and SETRANGE would have to know of it.

pub mod commands;
mod dense;
mod hash;
mod sparse;

pub use commands::COMMANDS;

pub const REGISTERS: usize = 16384;
pub const HEADER_BYTES: usize = 16;
const DENSE_BYTES: usize = HEADER_BYTES + dense::BYTES;

/// Bits of the hash that are not used up by the index of a register.
const RANK_BITS: usize = 50;

const MAGIC: &[u8; 4] = b"HYLL";
const ENCODING_AT: usize = 4;
const CARDINALITY_AT: usize = 8;
/// The byte of the cardinality whose top bit says that it is out of date.
const STALE_AT: usize = 15;
const STALE: u8 = 0x80;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Dense,
    Sparse,
}

/// The string is no sketch at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoSketch;

/// The registers of a sketch make no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Corrupted;

/// Register values, one a byte.
pub type Registers = [u8; REGISTERS];

/// A string that looks like a sketch.
#[derive(Clone, Copy)]
pub struct Sketch<'a> {
    bytes: &'a [u8],
    pub form: Form,
}

impl<'a> Sketch<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Sketch<'a>, NoSketch> {
        if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
            return Err(NoSketch);
        }
        match bytes[ENCODING_AT] {
            0 if bytes.len() == DENSE_BYTES => Ok(Sketch { bytes, form: Form::Dense }),
            1 => Ok(Sketch { bytes, form: Form::Sparse }),
            _ => Err(NoSketch),
        }
    }

    /// The cardinality that was counted last, if nothing was added since.
    pub fn cached_cardinality(self) -> Option<u64> {
        let bytes = self.bytes[CARDINALITY_AT..HEADER_BYTES].try_into().expect("eight bytes");
        let is_stale = self.bytes[STALE_AT] & STALE != 0;
        (!is_stale).then(|| u64::from_le_bytes(bytes))
    }

    /// Raises registers to those of this sketch.
    pub fn merge_into(self, registers: &mut Registers) -> Result<(), Corrupted> {
        match self.form {
            Form::Dense => {
                for (at, register) in registers.iter_mut().enumerate() {
                    *register = (*register).max(dense::get(self.body(), at));
                }
            }
            Form::Sparse => {
                for run in sparse::checked_runs(self.body())? {
                    for register in &mut registers[run.first..run.first + run.len] {
                        *register = (*register).max(run.value);
                    }
                }
            }
        }
        Ok(())
    }

    pub fn registers(self) -> Result<Box<Registers>, Corrupted> {
        let mut registers = Box::new([0; REGISTERS]);
        self.merge_into(&mut registers)?;
        Ok(registers)
    }

    /// The runs of a sparse sketch as text, for debugging.
    pub fn describe_runs(self) -> Result<String, Corrupted> {
        let runs = sparse::checked_runs(self.body())?;
        Ok(runs.iter().map(sparse::Run::describe).collect::<Vec<_>>().join(" "))
    }

    fn body(self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }
}

/// A sketch without elements.
pub fn new_sketch() -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[ENCODING_AT] = 1;
    sparse::push_zeros(&mut bytes, REGISTERS);
    bytes
}

/// The register that an element belongs to, and the rank it raises it to.
pub fn place_of(element: &[u8]) -> (usize, u8) {
    let hash = hash::murmur_64a(element);
    let index = hash as usize % REGISTERS;
    let rest = (hash >> (u64::BITS as usize - RANK_BITS)) | 1 << RANK_BITS;
    (index, rest.trailing_zeros() as u8 + 1)
}

/// Raises a register of a sketch; false if it was as high. When it fails nothing was changed.
pub fn raise(
    bytes: &mut Vec<u8>,
    index: usize,
    rank: u8,
    sparse_bytes_max: usize,
) -> Result<bool, Corrupted> {
    if bytes[ENCODING_AT] == 1 {
        let raised = sparse::raise(bytes, index, rank, sparse_bytes_max)?;
        if raised != sparse::Raised::NeedsDense {
            return Ok(raised == sparse::Raised::Yes);
        }
        make_dense(bytes)?;
    }
    let body = &mut bytes[HEADER_BYTES..];
    let raises = dense::get(body, index) < rank;
    if raises {
        dense::set(body, index, rank);
    }
    Ok(raises)
}

/// What [`raise`] does to a dense sketch, which keeps its length.
pub fn raises_dense(bytes: &[u8], index: usize, rank: u8) -> bool {
    dense::get(&bytes[HEADER_BYTES..], index) < rank
}

pub fn raise_dense(bytes: &mut [u8], index: usize, rank: u8) {
    dense::set(&mut bytes[HEADER_BYTES..], index, rank);
}

/// Packs the registers of a sparse sketch; the cached cardinality stays.
pub fn make_dense(bytes: &mut Vec<u8>) -> Result<(), Corrupted> {
    let runs = sparse::checked_runs(&bytes[HEADER_BYTES..])?;
    bytes.truncate(HEADER_BYTES);
    bytes.resize(DENSE_BYTES, 0);
    bytes[ENCODING_AT] = 0;
    for run in runs.iter().filter(|run| run.value > 0) {
        for at in run.first..run.first + run.len {
            dense::set(&mut bytes[HEADER_BYTES..], at, run.value);
        }
    }
    Ok(())
}

/// Marks the cached cardinality as out of date.
pub fn mark_stale(bytes: &mut [u8]) {
    bytes[STALE_AT] |= STALE;
}

pub fn cache_cardinality(bytes: &mut [u8], cardinality: u64) {
    bytes[CARDINALITY_AT..HEADER_BYTES].copy_from_slice(&cardinality.to_le_bytes());
}

/// Estimates how many elements raised the registers, by Ertl's improved estimator
/// (arXiv:1702.01284), in the order of operations that makes the same integer of it as Redis.
pub fn cardinality(registers: &Registers) -> u64 {
    /// 1 / (2 ln 2)
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let mut counts = [0_u32; 64];
    for register in registers {
        counts[usize::from(register & 63)] += 1;
    }
    let all = REGISTERS as f64;
    let mut z = all * tau((all - f64::from(counts[RANK_BITS + 1])) / all);
    for count in counts[1..=RANK_BITS].iter().rev() {
        z += f64::from(*count);
        z *= 0.5;
    }
    z += all * sigma(f64::from(counts[0]) / all);
    (ALPHA * all * all / z).round() as u64
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;

    #[test]
    fn both_forms_hold_the_same_registers() {
        for sparse_bytes_max in [0, 40, 3000, 20_000] {
            let mut prng = Prng::seeded(9);
            let mut bytes = new_sketch();
            let mut model = Box::new([0; REGISTERS]);
            for _ in 0..4000 {
                // Few registers and ranks, so that runs meet and join.
                let index = prng.below(1500) as usize;
                let rank = 1 + prng.below(3) as u8 + 40 * u8::from(prng.below(3000) == 0);
                let raised = raise(&mut bytes, index, rank, sparse_bytes_max).unwrap();
                assert_eq!(raised, model[index] < rank);
                model[index] = model[index].max(rank);
            }
            let sketch = Sketch::new(&bytes).unwrap();
            assert!(*sketch.registers().unwrap() == *model);
            let (before, count) = (sketch.form, cardinality(&model));
            if before == Form::Sparse {
                make_dense(&mut bytes).unwrap();
            }
            assert_eq!(cardinality(&Sketch::new(&bytes).unwrap().registers().unwrap()), count);
        }
    }

    #[test]
    fn estimates_are_near() {
        let mut registers = Box::new([0; REGISTERS]);
        assert_eq!(cardinality(&registers), 0);
        let mut next = 100_u64;
        for i in 1..=200_000_u64 {
            let (index, rank) = place_of(&i.to_le_bytes());
            registers[index] = registers[index].max(rank);
            if i == next {
                let error = cardinality(&registers).abs_diff(i) as f64 / i as f64;
                assert!(error < 0.05, "{i}: {error}");
                next *= 4;
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read() {
        let mut prng = Prng::seeded(4);
        for round in 0..3000 {
            let mut bytes = new_sketch();
            for i in 0..prng.below(60) {
                let (index, rank) = place_of(&(round * 100 + i).to_le_bytes());
                raise(&mut bytes, index, rank, 3000).unwrap();
            }
            for _ in 0..prng.below(4) {
                let at = prng.below(bytes.len() as u64) as usize;
                bytes[at] = prng.next_u64() as u8;
            }
            bytes.truncate(bytes.len() - prng.below(3) as usize);
            let Ok(sketch) = Sketch::new(&bytes) else { continue };
            let _ = sketch.registers().map(|registers| cardinality(&registers));
            let _ = sketch.describe_runs();
            let _ = raise(&mut bytes.clone(), prng.below(16384) as usize, 51, 3000);
            let _ = raise(&mut bytes, prng.below(16384) as usize, 20, 3000);
        }
    }
}
