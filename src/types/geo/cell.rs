//! Cells of the grid over the map, places in them, and the distance between places.
//!
//! With s steps the map has 2^s columns and rows; a cell is the number in which the bits of its
//! column stand above those of its row, pair by pair:
//!
//! ```text
//! column c2 c1 c0, row r2 r1 r0:   c2 r2 c1 r1 c0 r0
//! ```
//!
//! So the first bits of a finer cell are the coarser cell around it. A score is a cell of 26 steps,
//! 52 bits, which a double holds exactly. The map ends where the Mercator projection is a square;
//! the standard texts of GEOHASH are of a map that reaches the poles.

/// The steps of a score.
pub const STEPS_MAX: u32 = 26;

const LONGITUDE_MAX: f64 = 180.0;
const LATITUDE_MAX: f64 = 85.05112878;
const LATITUDE_OF_POLE: f64 = 90.0;

const EARTH_RADIUS_M: f64 = 6372797.560856;

const ROWS: u64 = 0x5555_5555_5555_5555;
const COLUMNS: u64 = !ROWS;

/// The digits of standard texts.
const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
const TEXT_LEN: usize = 11;
/// Of the text's digits so many follow from the 52 bits; the last one is always zero.
const KNOWN_DIGITS: usize = 10;

/// A place in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    pub longitude: f64,
    pub latitude: f64,
}

/// A part of the map in degrees.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    pub west: f64,
    pub east: f64,
    pub south: f64,
    pub north: f64,
}

impl Place {
    /// Whether it is on the map, which excludes the poles.
    pub fn is_on_map(self) -> bool {
        self.longitude.abs() <= LONGITUDE_MAX && self.latitude.abs() <= LATITUDE_MAX
    }

    /// The place that a score stands for: the middle of its cell.
    pub fn of_score(score: f64) -> Place {
        let area = Cell { bits: bits_of_score(score), steps: STEPS_MAX }.area();
        let middle = |a: f64, b: f64, max: f64| f64::midpoint(a, b).clamp(-max, max);
        Place {
            longitude: middle(area.west, area.east, LONGITUDE_MAX),
            latitude: middle(area.south, area.north, LATITUDE_MAX),
        }
    }

    pub fn score(self) -> u64 {
        Cell::around(self, STEPS_MAX).bits
    }

    /// The standard text, as other programs write it.
    pub fn standard_text(self) -> [u8; TEXT_LEN] {
        let bits = Cell::on_map_to(self, STEPS_MAX, LATITUDE_OF_POLE).bits;
        let mut text = [ALPHABET[0]; TEXT_LEN];
        for (i, digit) in text.iter_mut().enumerate().take(KNOWN_DIGITS) {
            *digit = ALPHABET[(bits >> (52 - (i + 1) * 5) & 0x1f) as usize];
        }
        text
    }

    /// The distance along the great circle, by the haversine formula.
    pub fn distance_m(self, other: Place) -> f64 {
        let half_chord = |from: f64, to: f64| ((radians(to) - radians(from)) / 2.0).sin();
        let v = half_chord(self.longitude, other.longitude);
        if v == 0.0 {
            return self.distance_by_latitude_m(other);
        }
        let u = half_chord(self.latitude, other.latitude);
        let cosines = radians(self.latitude).cos() * radians(other.latitude).cos();
        let a = u * u + cosines * v * v;
        2.0 * EARTH_RADIUS_M * a.sqrt().asin()
    }

    /// The distance along a meridian from one latitude to the other.
    pub fn distance_by_latitude_m(self, other: Place) -> f64 {
        EARTH_RADIUS_M * (radians(other.latitude) - radians(self.latitude)).abs()
    }

    /// The area of which the edges are so far away, where the earth is widest within it.
    pub fn surroundings(self, width_m: f64, height_m: f64) -> Area {
        let Place { longitude, latitude } = self;
        let rise = degrees(height_m / EARTH_RADIUS_M);
        let nearest_pole = if latitude < 0.0 { latitude - rise } else { latitude + rise };
        let spread = degrees(width_m / EARTH_RADIUS_M / radians(nearest_pole).cos());
        Area {
            west: longitude - spread,
            east: longitude + spread,
            south: latitude - rise,
            north: latitude + rise,
        }
    }
}

fn radians(degrees: f64) -> f64 {
    degrees * (std::f64::consts::PI / 180.0)
}

fn degrees(radians: f64) -> f64 {
    radians / (std::f64::consts::PI / 180.0)
}

/// A score that no place has is read as the machine Redis runs on turns it into an integer.
fn bits_of_score(score: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    if score < -HALF {
        1 << 63
    } else if score < HALF {
        (score as i64).cast_unsigned()
    } else if score < 2.0 * HALF {
        score as u64
    } else {
        0
    }
}

/// A cell of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub bits: u64,
    pub steps: u32,
}

impl Cell {
    /// The cell around a place on the map.
    pub fn around(place: Place, steps: u32) -> Cell {
        Cell::on_map_to(place, steps, LATITUDE_MAX)
    }

    fn on_map_to(place: Place, steps: u32, latitude_max: f64) -> Cell {
        let index = |value: f64, max: f64| {
            let share = (value + max) / (max + max);
            (share * (1_u64 << steps) as f64) as u32
        };
        let row = index(place.latitude, latitude_max);
        let column = index(place.longitude, LONGITUDE_MAX);
        Cell { bits: spread(row) | spread(column) << 1, steps }
    }

    pub fn area(self) -> Area {
        let (row, column) = (gather(self.bits), gather(self.bits >> 1));
        let cells = (1_u64 << self.steps) as f64;
        let edge = |index: u32, max: f64| -max + f64::from(index) / cells * (max + max);
        Area {
            west: edge(column, LONGITUDE_MAX),
            east: edge(column.wrapping_add(1), LONGITUDE_MAX),
            south: edge(row, LATITUDE_MAX),
            north: edge(row.wrapping_add(1), LATITUDE_MAX),
        }
    }

    /// The cell so many columns to the east and rows to the north, around the map's edges.
    pub fn neighbour(self, east: i8, north: i8) -> Cell {
        let all = u64::MAX >> (64 - 2 * self.steps);
        let (rows, columns) = (ROWS & all, COLUMNS & all);
        let column = step(self.bits & COLUMNS, east, rows) & columns;
        let row = step(self.bits & ROWS, north, columns) & rows;
        // The axis that does not move keeps even bits beyond the grid.
        let kept = |moved: u64, by: i8, mask: u64| if by == 0 { self.bits & mask } else { moved };
        Cell { bits: kept(column, east, COLUMNS) | kept(row, north, ROWS), steps: self.steps }
    }

    /// The scores of the places in the cell: from the first up to, but without, the second.
    pub fn scores(self) -> (f64, f64) {
        let shift = 2 * (STEPS_MAX - self.steps);
        ((self.bits << shift) as f64, ((self.bits + 1) << shift) as f64)
    }
}

/// Adds to a number of which each bit is followed by one of `gaps`, which lets carries through.
fn step(bits: u64, by: i8, gaps: u64) -> u64 {
    match by {
        0 => bits,
        1.. => bits.wrapping_add(gaps.wrapping_add(1)),
        _ => (bits | gaps).wrapping_sub(gaps.wrapping_add(1)),
    }
}

/// Shifts and masks that take 32 bits apart in halves, then quarters, down to single bits.
const HALVINGS: [(u32, u64); 5] = [
    (16, 0x0000_FFFF_0000_FFFF),
    (8, 0x00FF_00FF_00FF_00FF),
    (4, 0x0F0F_0F0F_0F0F_0F0F),
    (2, 0x3333_3333_3333_3333),
    (1, ROWS),
];

/// Puts a zero above each bit.
fn spread(value: u32) -> u64 {
    HALVINGS.iter().fold(u64::from(value), |bits, (shift, mask)| (bits | bits << shift) & mask)
}

/// Takes every other bit, from the lowest on.
fn gather(bits: u64) -> u32 {
    let pairs = HALVINGS.iter().rev().zip(HALVINGS.iter().rev().skip(1));
    let bits =
        pairs.fold(bits & ROWS, |bits, ((shift, _), (_, mask))| (bits | bits >> shift) & mask);
    (bits | bits >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;

    fn random_place(prng: &mut Prng) -> Place {
        let mut share = || prng.below(1 << 40) as f64 / (1_u64 << 40) as f64 * 2.0 - 1.0;
        Place { longitude: share() * LONGITUDE_MAX, latitude: share() * LATITUDE_MAX }
    }

    #[test]
    fn bits_are_spread_and_gathered() {
        let mut prng = Prng::seeded(7);
        for _ in 0..1000 {
            let value = prng.below(1 << 32) as u32;
            let naive: u64 = (0..32).map(|i| u64::from(value >> i & 1) << (2 * i)).sum();
            assert_eq!(spread(value), naive);
            assert_eq!(gather(naive), value);
            assert_eq!(gather(naive | COLUMNS), value);
        }
    }

    #[test]
    fn scores_are_those_that_redis_gives() {
        let palermo = Place { longitude: 13.361389, latitude: 38.115556 };
        let catania = Place { longitude: 15.087269, latitude: 37.502669 };
        assert_eq!(palermo.score(), 3479099956230698);
        assert_eq!(catania.score(), 3479447370796909);
        let stored = |place: Place| Place::of_score(place.score() as f64);
        assert_eq!(stored(palermo).standard_text(), *b"sqc8b49rny0");
        let distance_m = stored(palermo).distance_m(stored(catania));
        assert_eq!(format!("{distance_m:.4}"), "166274.1516");
    }

    #[test]
    fn a_place_is_near_the_middle_of_its_cell() {
        let mut prng = Prng::seeded(8);
        for _ in 0..1000 {
            let place = random_place(&mut prng);
            let stored = Place::of_score(place.score() as f64);
            assert!(place.distance_m(stored) < 0.6, "{place:?} {stored:?}");
            assert_eq!(stored.score(), place.score());
        }
    }

    #[test]
    fn neighbours_are_around_and_back() {
        let mut prng = Prng::seeded(9);
        for _ in 0..1000 {
            let steps = 1 + prng.below(26) as u32;
            let cell = Cell::around(random_place(&mut prng), steps);
            for (east, north) in [(1, 0), (0, 1), (1, 1), (-1, 1)] {
                let there = cell.neighbour(east, north);
                assert!(there.bits >> (2 * steps) == 0);
                assert_eq!(there.neighbour(-east, -north), cell);
            }
        }
    }

    #[test]
    fn any_score_is_read_as_some_place() {
        for score in [f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e19, 1e300, 9.3e18, -0.5] {
            assert!(Place::of_score(score).is_on_map(), "{score}");
        }
    }
}
