use super::*;
use crate::structs::prng::Prng;
use proptest::prelude::*;

fn of(texts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = new_empty();
    for text in texts {
        append(&mut bytes, text).expect("short");
    }
    bytes
}

fn texts(bytes: &[u8]) -> Vec<Vec<u8>> {
    Listpack::trusted(bytes).iter().map(|(_, element)| element.to_vec()).collect()
}

/// The elements' bytes without the frame.
fn body(texts: &[&[u8]]) -> Vec<u8> {
    let bytes = of(texts);
    bytes[HEADER_LEN..bytes.len() - 1].to_vec()
}

#[test]
fn the_bytes_are_those_of_the_format_page() {
    assert_eq!(new_empty(), [7, 0, 0, 0, 0, 0, 0xff]);
    assert_eq!(
        of(&[b"a", b"1024", b"-1"]),
        [16, 0, 0, 0, 3, 0, 0x81, b'a', 2, 0xc4, 0, 2, 0xdf, 0xff, 2, 0xff]
    );
    assert_eq!(body(&[b"0"]), [0, 1]);
    assert_eq!(body(&[b"127"]), [127, 1]);
    assert_eq!(body(&[b"128"]), [0xc0, 128, 2]);
    assert_eq!(body(&[b"4095"]), [0xcf, 0xff, 2]);
    assert_eq!(body(&[b"-4096"]), [0xd0, 0, 2]);
    assert_eq!(body(&[b"4096"]), [0xf1, 0, 0x10, 3]);
    assert_eq!(body(&[b"-32768"]), [0xf1, 0, 0x80, 3]);
    assert_eq!(body(&[b"32768"]), [0xf2, 0, 0x80, 0, 4]);
    assert_eq!(body(&[b"-8388608"]), [0xf2, 0, 0, 0x80, 4]);
    assert_eq!(body(&[b"8388608"]), [0xf3, 0, 0, 0x80, 0, 5]);
    assert_eq!(body(&[b"2147483648"]), [0xf4, 0, 0, 0, 0x80, 0, 0, 0, 0, 9]);
    assert_eq!(body(&[b""]), [0x80, 1]);
    for text in [&b"01"[..], b"-0", b"+1", b"1 ", b"9223372036854775808"] {
        assert_eq!(body(&[text])[0], 0x80 | text.len() as u8, "{}", text.escape_ascii());
    }
}

#[test]
fn long_strings_have_longer_heads_and_tails() {
    let cases: [(usize, &[u8], &[u8]); 8] = [
        (63, &[0xbf], &[64]),
        (64, &[0xe0, 64], &[66]),
        (125, &[0xe0, 125], &[127]),
        (126, &[0xe0, 126], &[1, 0x80]),
        (4095, &[0xef, 0xff], &[32, 0x81]),
        (4096, &[0xf0, 0, 16, 0, 0], &[32, 0x85]),
        (16_377, &[0xf0, 0xf9, 0x3f, 0, 0], &[127, 0xfe]),
        (16_378, &[0xf0, 0xfa, 0x3f, 0, 0], &[0, 0xff, 0xff]),
    ];
    for (len, head, tail) in cases {
        let text = vec![b'x'; len];
        let body = body(&[&text]);
        assert_eq!(body.len(), head.len() + len + tail.len());
        assert!(body.starts_with(head) && body.ends_with(tail), "length {len}");
        let bytes = of(&[b"1", &text, b"2"]);
        assert!(validate(&bytes, true));
        let found = Listpack::trusted(&bytes).iter().rev().map(|(_, element)| element);
        assert_eq!(
            found.collect::<Vec<_>>(),
            [Element::Int(2), Element::Str(&text), Element::Int(1)]
        );
    }
}

#[test]
fn the_count_saturates() {
    let mut bytes = new_empty();
    for _ in 0..65_534 {
        append(&mut bytes, b"7").expect("short");
    }
    assert_eq!(bytes[4..6], [0xfe, 0xff]);
    append(&mut bytes, b"7").expect("short");
    append(&mut bytes, b"8").expect("short");
    assert_eq!(bytes[4..6], [0xff, 0xff]);
    let view = Listpack::trusted(&bytes);
    assert_eq!(view.len(), 65_536);
    assert_eq!(view.get(-1), Some(Element::Int(8)));
    assert_eq!(view.get(65_535), Some(Element::Int(8)));
    assert_eq!(view.get(65_536), None);
    assert_eq!(view.get(-65_537), None);
    assert!(validate(&bytes, true));
    let second = split_off(&mut bytes, HEADER_LEN + 2 * 65_530);
    assert_eq!(Listpack::trusted(&second).len(), 6);
    assert_eq!(second[4..6], [6, 0]);
    assert_eq!(Listpack::trusted(&bytes).len(), 65_530);
}

#[test]
fn a_listpack_never_passes_its_limit() {
    let long = vec![b'x'; BYTES_MAX / 2];
    let mut bytes = of(&[&long]);
    let len = bytes.len();
    assert_eq!(append(&mut bytes, &long), Err(TooLong));
    assert_eq!(bytes.len(), len);
    assert_eq!(Listpack::trusted(&bytes).len(), 1);
}

#[test]
fn indices_count_from_both_ends() {
    let bytes = of(&[b"a", b"b", b"c", b"d", b"e"]);
    let view = Listpack::trusted(&bytes);
    for (index, wanted) in [(0, b"a"), (1, b"b"), (4, b"e"), (-1, b"e"), (-5, b"a"), (-2, b"d")] {
        assert_eq!(view.get(index), Some(Element::Str(wanted)), "index {index}");
    }
    for index in [5, -6, i64::MAX, i64::MIN] {
        assert_eq!(view.get(index), None);
    }
    assert_eq!(Listpack::trusted(&new_empty()).get(0), None);
    assert_eq!(Listpack::trusted(&new_empty()).get(-1), None);
}

#[test]
fn find_passes_over_what_it_skips() {
    let bytes = of(&[b"a", b"b", b"b", b"7", b"7", b"a"]);
    let view = Listpack::trusted(&bytes);
    assert_eq!(view.find(b"b", 0), view.seek(1));
    assert_eq!(view.find(b"b", 1), view.seek(2));
    assert_eq!(view.find(b"7", 1), view.seek(4));
    assert_eq!(view.find(b"7", 0), view.seek(3));
    assert_eq!(view.find(b"07", 0), None);
    assert_eq!(view.find(b"a", 4), view.seek(0));
    let second = view.seek(1).expect("there are six");
    assert_eq!(view.find_from(second, b"a", 3), view.seek(5));
}

/// A text that is often an integer and seldom long.
fn random_text(prng: &mut Prng) -> Vec<u8> {
    match prng.below(8) {
        0..3 => {
            let bits = prng.below(64);
            ((prng.next_u64() as i64) >> bits).to_string().into_bytes()
        }
        3 => vec![b'z'; prng.below(5000) as usize],
        4 => vec![b'y'; prng.below(200) as usize],
        _ => (0..prng.below(6)).map(|_| b'a' + prng.below(3) as u8).collect(),
    }
}

#[test]
fn a_listpack_does_as_a_vector() {
    let mut prng = Prng::seeded(5);
    for _ in 0..60 {
        let (mut bytes, mut model) = (new_empty(), Vec::<Vec<u8>>::new());
        for _ in 0..120 {
            step(&mut prng, &mut bytes, &mut model);
            assert!(validate(&bytes, true));
            assert_eq!(texts(&bytes), model);
            assert_eq!(Listpack::trusted(&bytes).len(), model.len());
            let backwards = Listpack::trusted(&bytes).iter().rev();
            assert!(backwards.map(|(_, element)| element.to_vec()).eq(model.iter().rev().cloned()));
        }
    }
}

fn step(prng: &mut Prng, bytes: &mut Vec<u8>, model: &mut Vec<Vec<u8>>) {
    let text = random_text(prng);
    let index = prng.below(model.len() as u64 + 1) as usize;
    let view = Listpack::trusted(bytes);
    let position = view.seek(index as i64).unwrap_or(view.end());
    let is_element = index < model.len();
    match prng.below(10) {
        0 => {
            append(bytes, &text).expect("short");
            model.push(text);
        }
        1 => {
            let other = random_text(prng);
            extend(bytes, [Element::of(&text), Element::of(&other)]).expect("short");
            model.extend([text, other]);
        }
        2 => {
            prepend(bytes, &text).expect("short");
            model.insert(0, text);
        }
        3 | 4 => {
            insert(bytes, position, &text).expect("short");
            model.insert(index, text);
        }
        5 if is_element => {
            replace(bytes, position, &text).expect("short");
            model[index] = text;
        }
        6 if is_element => {
            delete(bytes, position);
            model.remove(index);
        }
        7 => {
            let count = prng.below(4) as usize;
            let end = model.len().min(index + count);
            assert_eq!(delete_range(bytes, position, count), end - index);
            model.drain(index..end);
        }
        8 => {
            let second = split_off(bytes, position);
            assert!(validate(bytes, true) && validate(&second, true));
            assert_eq!(texts(&second), model[index..]);
            for (_, element) in Listpack::trusted(&second).iter() {
                append_element(bytes, element).expect("short");
            }
        }
        _ => {
            let found = model.iter().position(|own| *own == text);
            let found = found.and_then(|at| view.seek(at as i64));
            assert_eq!(view.find(&text, 0), found);
            if is_element {
                assert!(view.at(position).is(&model[index]));
                assert_eq!(view.at(position).text_len(), model[index].len());
                let next = view.next(position);
                assert_eq!(view.previous(next), Some(position));
                assert_eq!(view.read(position), (view.at(position), next));
                assert_eq!(view.skip(view.start(), index + 1), next);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(
        tail in prop::collection::vec(any::<u8>(), 0..64),
        count in prop::sample::select(vec![0u16, 1, 2, 3, u16::MAX]),
    ) {
        validate(&tail, true);
        let mut bytes = vec![tail.len() as u8 + 7, 0, 0, 0];
        bytes.extend(count.to_le_bytes());
        bytes.extend(&tail);
        bytes.push(END);
        if validate(&bytes, true) {
            texts(&bytes);
        }
    }

    #[test]
    fn a_flipped_byte_is_refused_or_harmless(
        words in prop::collection::vec("[a-c]{0,9}|-?[1-9][0-9]{0,17}", 0..8),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let mut bytes = of(&words);
        let at = at.index(bytes.len());
        bytes[at] = value;
        if validate(&bytes, true) {
            let view = Listpack::trusted(&bytes);
            prop_assert_eq!(view.iter().count(), view.iter().rev().count());
        }
    }
}
