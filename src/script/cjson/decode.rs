//! Documents in.
//!
//! One loop reads a value, hands it to the table it belongs to, and closes tables as long as their
//! brackets follow: the list of open tables is all the state there is.

use super::{Fault, Settings};
use crate::script::codec::{Build, Failed, PIECE_BYTES};
use crate::script::output::Output;
use crate::structs::number::{hex_digit, parse_f64_prefix};
use smallvec::SmallVec;

/// The index that the next element of an open array has; 0 for an open object.
type OpenTables = SmallVec<[usize; 32]>;
const OBJECT: usize = 0;

type Result<T, B> = std::result::Result<T, Failed<Fault, <B as crate::script::codec::Host>::Error>>;

/// Pushes the value that a document stands for. Strings with escapes are put together in
/// `unescaped`.
pub fn decode<B: Build>(
    document: &[u8],
    settings: &Settings,
    unescaped: Output<'_>,
    host: &mut B,
) -> Result<(), B> {
    if document.len() >= 2 && document[..2].contains(&0) {
        return Err(Failed::Input(Fault::WideUnicode));
    }
    let end = memchr::memchr(0, document).unwrap_or(document.len());
    let reader = Reader {
        text: &document[..end],
        at: 0,
        start: 0,
        takes_invalid_numbers: settings.decode_invalid_numbers,
        unescaped,
        string: None,
    };
    Decoder { reader, settings, host, open: OpenTables::new() }.run()
}

struct Decoder<'d, 'o, B> {
    reader: Reader<'d, 'o>,
    settings: &'d Settings,
    host: &'d mut B,
    open: OpenTables,
}

impl<'d, B: Build> Decoder<'d, '_, B> {
    fn run(&mut self) -> Result<(), B> {
        let mut token = self.token()?;
        loop {
            let first = match token {
                Token::ObjectBegin => self.open_object()?,
                Token::ArrayBegin => self.open_array()?,
                _ => self.scalar(token)?,
            };
            // A value that is whole belongs to the table around it.
            token = match first {
                Some(first) => first,
                None => match self.join()? {
                    Some(next) => next,
                    None => return self.end(),
                },
            };
        }
    }

    /// The next token. One that is long is read piece by piece, between which others are let in.
    fn token(&mut self) -> Result<Token<'d>, B> {
        loop {
            match self.reader.next() {
                Token::Unfinished => self.host.spend_on(PIECE_BYTES)?,
                Token::Full => return Err(Failed::Full),
                token => return Ok(token),
            }
        }
    }

    fn scalar(&mut self, token: Token<'d>) -> Result<Option<Token<'d>>, B> {
        match token {
            Token::String(text) => self.host.string(text)?,
            Token::Unescaped => self.host.string(self.reader.unescaped.as_slice())?,
            Token::Number(value) => self.host.number(value)?,
            Token::Boolean(value) => self.host.boolean(value)?,
            Token::Null => self.host.null()?,
            _ => return Err(self.unexpected("value", token)),
        }
        Ok(None)
    }

    /// Says with which token the first value begins, if there is one.
    fn open_object(&mut self) -> Result<Option<Token<'d>>, B> {
        // The table, a key, and its value.
        self.descend(3)?;
        self.host.open_map(0)?;
        let token = self.token()?;
        if matches!(token, Token::ObjectEnd) {
            return Ok(None);
        }
        self.open.push(OBJECT);
        self.key(token).map(Some)
    }

    fn open_array(&mut self) -> Result<Option<Token<'d>>, B> {
        // The table and a value.
        self.descend(2)?;
        self.host.open_array(0)?;
        let token = self.token()?;
        if matches!(token, Token::ArrayEnd) {
            if self.settings.decode_array_with_array_mt {
                self.host.mark_array()?;
            }
            return Ok(None);
        }
        self.open.push(1);
        Ok(Some(token))
    }

    fn descend(&mut self, slots: usize) -> Result<(), B> {
        let depth = self.open.len() + 1;
        let depth_max = self.settings.decode_max_depth.unsigned_abs() as usize;
        if depth <= depth_max && self.host.room(slots) {
            return Ok(());
        }
        Err(Failed::Input(Fault::DecodeTooDeep { depth, position: self.reader.at }))
    }

    /// Pushes the key that this token should be; says with which token its value begins.
    fn key(&mut self, token: Token<'d>) -> Result<Token<'d>, B> {
        match token {
            Token::String(text) => self.host.string(text)?,
            Token::Unescaped => self.host.string(self.reader.unescaped.as_slice())?,
            _ => return Err(self.unexpected("object key string", token)),
        }
        match self.token()? {
            Token::Colon => self.token(),
            other => Err(self.unexpected("colon", other)),
        }
    }

    /// Hands the value on top to the table around it, and closes the tables that end there. Says
    /// with which token the next value begins; none if no table is open any more.
    fn join(&mut self) -> Result<Option<Token<'d>>, B> {
        while let Some(index) = self.open.last_mut() {
            if *index == OBJECT {
                self.host.set_entry()?;
                match self.token()? {
                    Token::ObjectEnd => {}
                    Token::Comma => {
                        let token = self.token()?;
                        return self.key(token).map(Some);
                    }
                    other => return Err(self.unexpected("comma or object end", other)),
                }
            } else {
                self.host.set_element(*index)?;
                *index += 1;
                match self.token()? {
                    Token::ArrayEnd => {}
                    Token::Comma => return self.token().map(Some),
                    other => return Err(self.unexpected("comma or array end", other)),
                }
            }
            self.open.pop();
        }
        Ok(None)
    }

    fn end(&mut self) -> Result<(), B> {
        match self.token()? {
            Token::End => Ok(()),
            other => Err(self.unexpected("the end", other)),
        }
    }

    fn unexpected(&self, expected: &'static str, token: Token<'d>) -> Failed<Fault, B::Error> {
        let found = token.name();
        Failed::Input(Fault::Unexpected { expected, found, position: self.reader.start + 1 })
    }
}

#[derive(Clone, Copy)]
enum Token<'d> {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// A string that stands in the document as it is.
    String(&'d [u8]),
    /// One that the reader took the escapes out of.
    Unescaped,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Bad(&'static str),
    /// It goes on for longer than a piece: the reader is to be asked again.
    Unfinished,
    /// There is no memory for it.
    Full,
}

impl Token<'_> {
    /// What error texts call it.
    fn name(self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::String(_) | Token::Unescaped => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Bad(what) => what,
            Token::Unfinished | Token::Full => "",
        }
    }
}

struct Reader<'d, 'o> {
    text: &'d [u8],
    at: usize,
    /// Where the last token began, or where in it the error is.
    start: usize,
    takes_invalid_numbers: bool,
    unescaped: Output<'o>,
    /// The string that is being read, if it is unfinished.
    string: Option<OpenString>,
}

/// Where a string began, behind its quote, and whether what has been read of it is in `unescaped`.
#[derive(Clone, Copy)]
struct OpenString {
    start: usize,
    has_escapes: bool,
}

impl<'d> Reader<'d, '_> {
    fn next(&mut self) -> Token<'d> {
        if let Some(string) = self.string.take() {
            return self.rest_of_string(string);
        }
        let until = self.at.saturating_add(PIECE_BYTES);
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
            if self.at == until {
                return Token::Unfinished;
            }
        }
        self.start = self.at;
        let Some(first) = self.text.get(self.at) else { return Token::End };
        let token = match first {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' => return self.number(),
            b'+' | b'i' | b'I' | b'n' | b'N' | b't' | b'f' => return self.word(),
            _ => return Token::Bad("invalid token"),
        };
        self.at += 1;
        token
    }

    fn rest(&self) -> &'d [u8] {
        &self.text[self.at..]
    }

    fn number(&mut self) -> Token<'d> {
        if !self.takes_invalid_numbers && is_invalid_number(self.rest()) {
            return Token::Bad("invalid number");
        }
        match parse_f64_prefix(self.rest()) {
            Some((value, len)) => {
                self.at += len;
                Token::Number(value)
            }
            None => Token::Bad("invalid number"),
        }
    }

    fn word(&mut self) -> Token<'d> {
        let words: [(&[u8], Token<'d>); 3] = [
            (b"true", Token::Boolean(true)),
            (b"false", Token::Boolean(false)),
            (b"null", Token::Null),
        ];
        for (word, token) in words {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return token;
            }
        }
        if self.takes_invalid_numbers && is_invalid_number(self.rest()) {
            return self.number();
        }
        Token::Bad("invalid token")
    }

    fn string(&mut self) -> Token<'d> {
        self.at += 1;
        self.rest_of_string(OpenString { start: self.at, has_escapes: false })
    }

    /// Reads on in a string for at most a piece.
    fn rest_of_string(&mut self, mut string: OpenString) -> Token<'d> {
        let until = self.text.len().min(self.at.saturating_add(PIECE_BYTES));
        loop {
            let from = self.at;
            let special = self.find_special(until);
            if string.has_escapes && self.unescaped.append(&self.text[from..self.at]).is_err() {
                return Token::Full;
            }
            match special {
                Some(b'"') => return self.end_string(string),
                Some(_) => {
                    if !string.has_escapes && !self.begin_unescaped(string.start) {
                        return Token::Full;
                    }
                    string.has_escapes = true;
                    match self.escape() {
                        Ok(true) => {}
                        Ok(false) => return Token::Full,
                        Err(what) => return self.bad(what),
                    }
                }
                None if self.at == self.text.len() => return self.bad("unexpected end of string"),
                None => {
                    self.string = Some(string);
                    return Token::Unfinished;
                }
            }
        }
    }

    fn end_string(&mut self, string: OpenString) -> Token<'d> {
        let text = &self.text[string.start..self.at];
        self.at += 1;
        if string.has_escapes { Token::Unescaped } else { Token::String(text) }
    }

    /// Goes to the next quote or backslash before a place, or to that place.
    fn find_special(&mut self, until: usize) -> Option<u8> {
        let rest = self.text.get(self.at..until)?;
        let len = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
        self.at += len.unwrap_or(rest.len());
        Some(rest[len?])
    }

    /// Takes what has been read of a string until its first backslash; whether there is room.
    fn begin_unescaped(&mut self, start: usize) -> bool {
        self.unescaped.clear();
        self.unescaped.append(&self.text[start..self.at]).is_ok()
    }

    fn bad(&mut self, what: &'static str) -> Token<'d> {
        self.start = self.at;
        Token::Bad(what)
    }

    /// Takes what the escape here stands for, and goes behind it; whether there is room.
    fn escape(&mut self) -> std::result::Result<bool, &'static str> {
        let byte = match self.text.get(self.at + 1) {
            Some(b'u') => return self.unicode_escape().ok_or("invalid unicode escape code"),
            Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
            Some(b'b') => 8,
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'f') => 12,
            Some(b'r') => b'\r',
            _ => return Err("invalid escape code"),
        };
        self.at += 2;
        Ok(self.unescaped.append(&[byte]).is_ok())
    }

    fn unicode_escape(&mut self) -> Option<bool> {
        let mut code = self.code_unit(self.at)?;
        let mut len = 6;
        if (0xd800..0xe000).contains(&code) {
            let low = self.code_unit(self.at + len)?;
            if code >= 0xdc00 || !(0xdc00..0xe000).contains(&low) {
                return None;
            }
            code = 0x10000 + ((code & 0x3ff) << 10 | low & 0x3ff);
            len = 12;
        }
        let character = char::from_u32(code)?;
        self.at += len;
        Some(self.unescaped.append(character.encode_utf8(&mut [0; 4]).as_bytes()).is_ok())
    }

    /// What `\u` and four digits at this place stand for.
    fn code_unit(&self, at: usize) -> Option<u32> {
        let Some([b'\\', b'u', digits @ ..]) = self.text.get(at..at + 6) else { return None };
        digits.iter().try_fold(0, |code, digit| Some(code << 4 | u32::from(hex_digit(*digit)?)))
    }
}

/// Whether this is a number that C reads and the standard does not allow, should it be a number.
fn is_invalid_number(text: &[u8]) -> bool {
    if text.starts_with(b"+") {
        return true;
    }
    let text = text.strip_prefix(b"-").unwrap_or(text);
    if let [b'0', next, ..] = text {
        return matches!(next, b'x' | b'X' | b'0'..=b'9');
    }
    let is_word = |word: &[u8]| text.len() >= 3 && text[..3].eq_ignore_ascii_case(word);
    is_word(b"inf") || is_word(b"nan")
}
