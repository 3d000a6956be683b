//! The section about hot and large keys. Keys may hold any bytes, so they are quoted and come last
//! in their lines.

use super::View;
use crate::config::quote::quote;
use crate::observe::hot_keys::{HALF_LIFE_SECONDS, Ranking, SAMPLE_MEAN};
use crate::types::Kind;
use std::fmt::Write;

/// Keys of each ranking that are shown.
const SHOWN: usize = 10;

pub fn lines(view: &View<'_>, text: &mut String) {
    let rankings = &view.server.hot_keys.rankings;
    put(text, format_args!("hotkeys_sample_ratio:{SAMPLE_MEAN}"));
    put(text, format_args!("hotkeys_half_life_seconds:{HALF_LIFE_SECONDS}"));
    let total = &rankings.total;
    put_ranking(view, text, ("calls", "per_sec", 1.0), &rankings.by_calls, total.calls);
    put_ranking(view, text, ("cpu", "usec_per_sec", 1000.0), &rankings.by_time, total.ns);
    put_ranking(view, text, ("net", "bytes_per_sec", 1.0), &rankings.by_bytes, total.bytes);
    for kind in Kind::ALL {
        for (rank, big) in view.server.hot_keys.big.top(kind).into_iter().enumerate() {
            let (name, key) = (kind.name(), shown(&big.key.key));
            let (db, bytes) = (big.key.db, big.bytes);
            put(text, format_args!("largest_{name}_{rank}:db={db},bytes={bytes},key={key}"));
        }
    }
}

fn put_ranking(
    view: &View<'_>,
    text: &mut String,
    (name, unit, units): (&str, &str, f64),
    ranking: &Ranking,
    total: f64,
) {
    let mono_ms = view.server.clock.mono_ms();
    for (rank, (key, weight)) in ranking.top(SHOWN).into_iter().enumerate() {
        let rate = view.server.hot_keys.per_second(weight / units, mono_ms);
        let (db, share, key) = (key.db, 100.0 * weight / total, shown(&key.key));
        put(
            text,
            format_args!(
                "hot_by_{name}_{rank}:db={db},{unit}={rate:.2},share={share:.2}%,key={key}"
            ),
        );
    }
}

fn shown(key: &[u8]) -> String {
    String::from_utf8(quote(key)).expect("what is quoted is ASCII")
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    write!(text, "{line}\r\n").expect("writing to a string cannot fail");
}
