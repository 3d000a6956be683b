//! Long lists against a vector, with a snapshot held, for limits that make leaves of all kinds.

use super::{End, ListRef, NodeLimit, Quicklist};
use crate::structs::prng::Prng;
use std::ops::ControlFlow;

fn texts(list: &Quicklist, backwards: bool) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let list = ListRef::Tree(list);
    let _ = list.walk(0..list.len(), backwards, |_, value| {
        found.push(value.to_vec());
        ControlFlow::Continue(())
    });
    found
}

fn text(prng: &mut Prng) -> Vec<u8> {
    match prng.below(30) {
        0 => vec![b'x'; 9000],
        1 => vec![b'y'; 1000],
        _ => prng.below(20).to_string().into_bytes(),
    }
}

fn step(prng: &mut Prng, list: &mut Quicklist, model: &mut Vec<Vec<u8>>, limit: NodeLimit) {
    let at = prng.below(model.len() as u64 + 1) as usize;
    let text = text(prng);
    match prng.below(20) {
        0..6 => {
            list.push(End::Left, &text, None, limit);
            model.insert(0, text);
        }
        6..10 => {
            list.push(End::Right, &text, None, limit);
            model.push(text);
        }
        10..15 => {
            list.insert(at, &text, None, limit);
            model.insert(at, text);
        }
        15 | 16 if at < model.len() => {
            list.replace(at, &text, None, limit);
            model[at] = text;
        }
        17 if prng.below(4) == 0 => {
            let end = (at + prng.below(40) as usize).min(model.len());
            list.delete(at..end);
            model.drain(at..end);
        }
        18 => {
            assert_eq!(list.remove(&text, 1, End::Left), usize::from(model.contains(&text)));
            if let Some(at) = model.iter().position(|own| *own == text) {
                model.remove(at);
            }
        }
        19 => {
            assert_eq!(list.remove(&text, 1, End::Right), usize::from(model.contains(&text)));
            if let Some(at) = model.iter().rposition(|own| *own == text) {
                model.remove(at);
            }
        }
        _ => {}
    }
}

#[test]
fn a_long_list_is_a_sequence_whatever_its_leaves() {
    for (seed, fill) in [-5, -1, 1, 3, 128].into_iter().enumerate() {
        let (mut prng, limit) = (Prng::seeded(seed as u64), NodeLimit::of(fill));
        let (mut list, mut model) = (Quicklist::default(), Vec::new());
        let mut snapshot = (list.clone(), model.clone());
        for round in 0..1500 {
            step(&mut prng, &mut list, &mut model, limit);
            if round % 50 == 0 {
                assert_eq!(texts(&list, false), model, "fill {fill}, round {round}");
                let mut backwards = texts(&list, true);
                backwards.reverse();
                assert_eq!(backwards, model);
                assert_eq!(texts(&snapshot.0, false), snapshot.1);
                snapshot = (list.clone(), model.clone());
            }
        }
    }
}

#[test]
fn limits_are_classes_of_bytes_or_counts() {
    for (fill, bytes) in [(-1, 4096), (-5, 65536), (i32::MIN, 65536)] {
        let limit = NodeLimit::of(fill);
        assert!(!limit.is_large(bytes) && limit.is_large(bytes + 1));
    }
    assert!(NodeLimit::of(0).is_exceeded(8, 2) && !NodeLimit::of(0).is_exceeded(8, 1));
    assert!(NodeLimit::of(-2).with_large_from(Some(3)).is_large(3));
    assert!(!NodeLimit::of(-2).is_exceeded(8192, 9999) && NodeLimit::of(-2).is_exceeded(8193, 1));
    assert!(NodeLimit::of(4).is_exceeded(100, 5) && NodeLimit::of(4).is_exceeded(8193, 1));
}
