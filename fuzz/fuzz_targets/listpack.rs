//! Bytes that pass the check are safe to walk and to edit, and edits do what they do to a vector.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use rufous::structs::listpack::{self, Listpack};

#[derive(Arbitrary, Debug)]
enum Edit {
    Append(Vec<u8>),
    Prepend(Vec<u8>),
    Insert(u8, Vec<u8>),
    Replace(u8, Vec<u8>),
    DeleteRange(u8, u8),
    Split(u8),
    Number(i64),
}

/// The elements of a pack, read forwards and backwards.
fn elements(bytes: &[u8]) -> Vec<Vec<u8>> {
    let pack = Listpack::trusted(bytes);
    let forwards: Vec<Vec<u8>> = pack.iter().map(|(_, element)| element.to_vec()).collect();
    let mut backwards: Vec<Vec<u8>> = pack.iter().rev().map(|(_, e)| e.to_vec()).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
    assert_eq!(pack.len(), forwards.len());
    forwards
}

fn apply(pack: &mut Vec<u8>, model: &mut Vec<Vec<u8>>, edit: Edit) {
    let view = Listpack::trusted(pack);
    let index = |at: u8| usize::from(at) % (model.len() + 1);
    let position = |at: usize| view.seek(at as i64).unwrap_or(view.end());
    let is_there = |at: usize| at < model.len();
    match edit {
        Edit::Append(text) => {
            listpack::append(pack, &text).expect("it is short");
            model.push(text);
        }
        Edit::Number(number) => {
            listpack::append(pack, number.to_string().as_bytes()).expect("it is short");
            model.push(number.to_string().into_bytes());
        }
        Edit::Prepend(text) => {
            listpack::prepend(pack, &text).expect("it is short");
            model.insert(0, text);
        }
        Edit::Insert(at, text) => {
            let (at, position) = (index(at), position(index(at)));
            listpack::insert(pack, position, &text).expect("it is short");
            model.insert(at, text);
        }
        Edit::Replace(at, text) if is_there(index(at)) => {
            let (at, position) = (index(at), position(index(at)));
            listpack::replace(pack, position, &text).expect("it is short");
            model[at] = text;
        }
        Edit::DeleteRange(at, count) if is_there(index(at)) => {
            let (at, position) = (index(at), position(index(at)));
            let removed = listpack::delete_range(pack, position, count.into());
            let end = model.len().min(at + usize::from(count));
            assert_eq!(removed, end - at);
            model.drain(at..end);
        }
        Edit::Split(at) => {
            let (at, position) = (index(at), position(index(at)));
            let second = listpack::split_off(pack, position);
            assert!(listpack::validate(&second, true));
            assert_eq!(elements(&second), model.split_off(at));
        }
        Edit::Replace(..) | Edit::DeleteRange(..) => {}
    }
}

fuzz_target!(|input: (bool, Vec<u8>, Vec<Edit>)| {
    let (completes, mut pack, edits) = input;
    if completes && pack.len() >= 7 {
        // A frame that fits, so that the elements are reached.
        let len = pack.len() as u32;
        pack[..4].copy_from_slice(&len.to_le_bytes());
        *pack.last_mut().expect("it is not empty") = 0xff;
        pack[4..6].fill(0xff);
    }
    if !listpack::validate(&pack, true) {
        pack = listpack::new_empty();
    }
    let mut model = elements(&pack);
    for edit in edits {
        apply(&mut pack, &mut model, edit);
        assert!(listpack::validate(&pack, true));
    }
    assert_eq!(elements(&pack), model);
    for (index, text) in model.iter().enumerate() {
        let view = Listpack::trusted(&pack);
        let found = view.find(text, 0).expect("it is there");
        assert!(found <= view.seek(index as i64).expect("it is there"));
    }
});
