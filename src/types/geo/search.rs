//! Searching around a place: which cells cover the shape, and which of their places lie in it.
//!
//! A cell about as wide as the shape and its eight neighbours cover it, so a search reads at most
//! nine ranges of scores, whatever the size of the set. They are read in Redis's order, since that
//! is the order of the reply when none is asked for.

use super::cell::{Area, Cell, Place, STEPS_MAX};
use crate::structs::listpack::Element;
use crate::types::zset::ZSetRef;
use std::cmp::Ordering;
use std::ops::Range;

/// Half the width of the map of the Mercator projection.
const MERCATOR_MAX_M: f64 = 20_037_726.37;

/// A unit of distance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    pub metres: f64,
}

impl Unit {
    pub const METRE: Unit = Unit { metres: 1.0 };

    pub fn parse(name: &[u8]) -> Option<Unit> {
        let units = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
        let found = units.iter().find(|(own, _)| name.eq_ignore_ascii_case(own.as_bytes()));
        found.map(|(_, metres)| Unit { metres: *metres })
    }
}

/// What is searched, its sizes in units.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Circle { radius: f64 },
    Box { width: f64, height: f64 },
}

/// A search.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    pub center: Place,
    pub shape: Shape,
    pub unit: Unit,
}

/// A member that lies in the shape.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    pub member: Element<'a>,
    pub score: f64,
    pub place: Place,
    pub distance_m: f64,
}

impl Found<'_> {
    /// Nearer ones come first; as in Redis, what cannot be compared counts as nearer.
    pub fn compare(&self, other: &Found<'_>) -> Ordering {
        self.distance_m.total_cmp(&other.distance_m)
    }
}

impl Search {
    /// The ranks in which the members of the shape lie, in the order of reading.
    pub fn ranks(&self, zset: ZSetRef<'_>) -> Vec<Range<usize>> {
        let cells = self.cells();
        let ranks = cells.into_iter().map(|cell| {
            let (min, end) = cell.scores();
            let start = zset.rank_where(|score, _| score < min);
            start..zset.rank_where(|score, _| score < end).max(start)
        });
        ranks.filter(|ranks| !ranks.is_empty()).collect()
    }

    /// The members of the shape within these ranks, at most so many.
    pub fn find<'a>(
        &self,
        zset: ZSetRef<'a>,
        ranks: &[Range<usize>],
        max: Option<usize>,
    ) -> Vec<Found<'a>> {
        let candidates = ranks.iter().flat_map(|ranks| zset.range(ranks.clone()));
        let found = candidates.filter_map(|(member, score)| {
            let place = Place::of_score(score);
            let distance_m = self.distance_within_m(place)?;
            Some(Found { member, score, place, distance_m })
        });
        found.take(max.unwrap_or(usize::MAX)).collect()
    }

    /// The distance of a place from the center if the place is in the shape.
    fn distance_within_m(&self, place: Place) -> Option<f64> {
        let is_outside = match self.shape {
            Shape::Circle { radius } => self.center.distance_m(place) > radius * self.unit.metres,
            Shape::Box { width, height } => {
                let (width_m, height_m) = (width * self.unit.metres, height * self.unit.metres);
                let beside = Place { latitude: place.latitude, ..self.center };
                place.distance_by_latitude_m(self.center) > height_m / 2.0
                    || place.distance_m(beside) > width_m / 2.0
            }
        };
        (!is_outside).then(|| self.center.distance_m(place))
    }

    /// The area around the shape.
    fn area(&self) -> Area {
        let (width, height) = match self.shape {
            Shape::Circle { radius } => (radius, radius),
            Shape::Box { width, height } => (width / 2.0, height / 2.0),
        };
        self.center.surroundings(self.unit.metres * width, self.unit.metres * height)
    }

    /// From the center to what is farthest.
    fn reach_m(&self) -> f64 {
        let reach = match self.shape {
            Shape::Circle { radius } => radius,
            Shape::Box { width, height } => {
                ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
            }
        };
        reach * self.unit.metres
    }

    /// The cells that cover the shape.
    fn cells(&self) -> Vec<Cell> {
        let area = self.area();
        let mut steps = steps_for(self.reach_m(), self.center.latitude);
        let mut middle = Cell::around(self.center, steps);
        if steps > 1 && !is_covered(middle, area) {
            steps -= 1;
            middle = Cell::around(self.center, steps);
        }
        let own = middle.area();
        let is_needed = |(east, north): (i8, i8)| {
            steps < 2
                || !((north < 0 && own.south < area.south)
                    || (north > 0 && own.north > area.north)
                    || (east < 0 && own.west < area.west)
                    || (east > 0 && own.east > area.east))
        };
        let around = [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let mut cells = vec![middle];
        for (east, north) in around.into_iter().filter(|towards| is_needed(*towards)) {
            let cell = middle.neighbour(east, north);
            // On a small map neighbours are the same to either side. Redis compares each with the
            // one before it, but not with the middle.
            if cells.len() == 1 || cells.last() != Some(&cell) {
                cells.push(cell);
            }
        }
        cells
    }
}

/// Whether the cell and its neighbours reach as far as the area.
fn is_covered(middle: Cell, area: Area) -> bool {
    let beside = |east, north| middle.neighbour(east, north).area();
    !(beside(0, 1).north < area.north
        || beside(0, -1).south > area.south
        || beside(1, 0).east < area.east
        || beside(-1, 0).west > area.west)
}

/// The steps at which a cell is about as wide as the search: fewer towards the poles, where cells
/// are narrow.
fn steps_for(reach_m: f64, latitude: f64) -> u32 {
    if reach_m == 0.0 {
        return STEPS_MAX;
    }
    let (mut reach_m, mut steps) = (reach_m, -1_i32);
    while reach_m < MERCATOR_MAX_M {
        reach_m *= 2.0;
        steps += 1;
    }
    if latitude.abs() > 66.0 {
        steps -= 1;
    }
    if latitude.abs() > 80.0 {
        steps -= 1;
    }
    steps.clamp(1, 26).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::listpack;
    use crate::structs::listpack::Listpack;
    use crate::structs::number::I64Buf;
    use crate::structs::prng::Prng;

    /// A listpack of random places around a center, with the places themselves.
    fn random_set(prng: &mut Prng, center: Place) -> Vec<u8> {
        let mut offset = || (prng.f64_unit() - 0.5) * 3.0;
        let mut scores: Vec<u64> = (0..300)
            .map(|_| Place {
                longitude: (center.longitude + offset()).clamp(-180.0, 180.0),
                latitude: (center.latitude + offset()).clamp(-85.0, 85.0),
            })
            .map(Place::score)
            .collect();
        scores.sort_unstable();
        let mut bytes = listpack::new_empty();
        for (i, score) in scores.iter().enumerate() {
            listpack::append(&mut bytes, format!("m{i}").as_bytes()).expect("it is small");
            listpack::append(&mut bytes, score.to_string().as_bytes()).expect("it is small");
        }
        bytes
    }

    #[test]
    fn a_search_finds_what_measuring_all_finds() {
        let mut prng = Prng::seeded(11);
        for round in 0..200 {
            let center = Place {
                longitude: (prng.f64_unit() - 0.5) * 340.0,
                latitude: (prng.f64_unit() - 0.5) * 130.0,
            };
            let bytes = random_set(&mut prng, center);
            let zset = ZSetRef::Listpack(Listpack::trusted(&bytes));
            let (a, b) = (prng.f64_unit() * 100.0, prng.f64_unit() * 100.0);
            let shape = match round % 2 {
                0 => Shape::Circle { radius: a },
                _ => Shape::Box { width: a, height: b },
            };
            let search = Search { center, shape, unit: Unit { metres: 1000.0 } };
            let names = |found: Vec<Found<'_>>| {
                let name = |found: &Found<'_>| found.member.bytes(&mut I64Buf::new()).to_vec();
                let mut names: Vec<Vec<u8>> = found.iter().map(name).collect();
                names.sort();
                names
            };
            let found = names(search.find(zset, &search.ranks(zset), None));
            let everything = 0..zset.len();
            let all = names(search.find(zset, std::slice::from_ref(&everything), None));
            assert_eq!(found, all, "{search:?}");
        }
    }

    #[test]
    fn steps_fit_the_reach() {
        assert_eq!(steps_for(0.0, 0.0), 26);
        assert_eq!(steps_for(1e-300, 0.0), 26);
        assert_eq!(steps_for(f64::INFINITY, 0.0), 1);
        assert_eq!(steps_for(200_000.0, 10.0), 6);
        assert_eq!(steps_for(200_000.0, 70.0), 5);
        assert_eq!(steps_for(200_000.0, -81.0), 4);
    }
}
