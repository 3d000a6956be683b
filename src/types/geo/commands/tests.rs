//! How numbers are written.

use super::*;
use crate::resp::{Protocol, ReplyBuf};

fn written(write: impl FnOnce(&mut Reply<'_>)) -> String {
    let mut out = ReplyBuf::new();
    write(&mut out.writer(Protocol::Resp2));
    String::from_utf8(out.to_vec()).expect("numbers are text")
}

#[test]
fn distances_have_four_decimals() {
    let texts = [
        (0.0, "0.0000"),
        (0.00004, "0.0000"),
        (0.00006, "0.0001"),
        (1.0, "1.0000"),
        (166274.15156960033, "166274.1516"),
        // Halves go to the even digit.
        (0.03125 + 0.00005 - 0.00005, "0.0312"),
        (f64::NAN, "-922337203685477.5808"),
    ];
    for (distance, text) in texts {
        let reply = written(|reply| write_distance(reply, distance));
        assert_eq!(reply, format!("${}\r\n{text}\r\n", text.len()));
    }
}

#[test]
fn degrees_are_exact_to_17_decimals() {
    let text = |degrees| {
        let place = Place { longitude: degrees, latitude: 0.0 };
        let reply = written(|reply| write_place(reply, place));
        reply.lines().nth(2).expect("the first degree stands there").to_owned()
    };
    assert_eq!(text(13.361389338970184), "13.36138933897018433");
    assert_eq!(text(0.5), "0.5");
    assert_eq!(text(180.0), "180");
    assert_eq!(text(-1e-30), "0");
    // 2^-18 and 3 * 2^-18 end in a 5 at the 18th decimal: a half, which goes to the even digit.
    assert_eq!(text(1.0 / 262_144.0), "0.00000381469726562");
    assert_eq!(text(3.0 / 262_144.0), "0.00001144409179688");
}
