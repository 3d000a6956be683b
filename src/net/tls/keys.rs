//! Private keys, plain or under a passphrase.
//!
//! Encrypted ones come in two forms: PKCS#8, which OpenSSL writes since 3.0, and the older one,
//! whose section says in header lines how it is encrypted. There the key is made of passphrase and
//! salt by one round of MD5, which protects little, but is what the files of many years hold.

use super::pem::{self, Section};
use aes::{Aes128, Aes192, Aes256};
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use des::TdesEde3;
use md5::{Digest, Md5};
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

const WANTS_PASSPHRASE: &str = "the key is encrypted, and no passphrase is configured";
const WRONG_PASSPHRASE: &str = "bad decrypt";

/// The first private key of a text.
pub fn read(text: &[u8], passphrase: Option<&[u8]>) -> Result<PrivateKeyDer<'static>, String> {
    for section in pem::sections(text)? {
        match section.label.as_str() {
            "PRIVATE KEY" => return Ok(PrivatePkcs8KeyDer::from(section.der).into()),
            "ENCRYPTED PRIVATE KEY" => {
                let key = decrypt_pkcs8(&section.der, passphrase.ok_or(WANTS_PASSPHRASE)?)?;
                return Ok(PrivatePkcs8KeyDer::from(key).into());
            }
            "RSA PRIVATE KEY" => {
                return Ok(PrivateKeyDer::Pkcs1(plain(section, passphrase)?.into()));
            }
            "EC PRIVATE KEY" => return Ok(PrivateKeyDer::Sec1(plain(section, passphrase)?.into())),
            _ => {}
        }
    }
    Err("no private key found".to_owned())
}

fn decrypt_pkcs8(der: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, String> {
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(der);
    let encrypted = encrypted.map_err(|_| "unsupported encryption of the key")?;
    let key = encrypted.decrypt(passphrase).map_err(|_| WRONG_PASSPHRASE)?;
    Ok(key.as_bytes().to_vec())
}

/// What a section holds, decrypted if its headers say that it is encrypted.
fn plain(section: Section, passphrase: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let Some(info) = section.header("DEK-Info") else { return Ok(section.der) };
    let passphrase = passphrase.ok_or(WANTS_PASSPHRASE)?;
    let (cipher, iv) = info.split_once(',').ok_or("bad DEK-Info header")?;
    let iv = bytes_of_hex(iv).ok_or("bad DEK-Info header")?;
    let decrypted = match cipher {
        "AES-128-CBC" => decrypt::<Decryptor<Aes128>>(16, passphrase, &iv, &section.der),
        "AES-192-CBC" => decrypt::<Decryptor<Aes192>>(24, passphrase, &iv, &section.der),
        "AES-256-CBC" => decrypt::<Decryptor<Aes256>>(32, passphrase, &iv, &section.der),
        "DES-EDE3-CBC" => decrypt::<Decryptor<TdesEde3>>(24, passphrase, &iv, &section.der),
        other => return Err(format!("unsupported encryption of the key: {other}")),
    };
    decrypted.ok_or_else(|| WRONG_PASSPHRASE.to_owned())
}

fn decrypt<C: KeyIvInit + BlockModeDecrypt>(
    key_bytes: usize,
    passphrase: &[u8],
    iv: &[u8],
    encrypted: &[u8],
) -> Option<Vec<u8>> {
    let key = stretch(passphrase, iv.get(..SALT_BYTES)?, key_bytes);
    let cipher = C::new_from_slices(&key, iv).ok()?;
    cipher.decrypt_padded_vec::<Pkcs7>(encrypted).ok()
}

/// So much of the initialization vector is the salt of the key.
const SALT_BYTES: usize = 8;

/// The key of the old form: each 16 bytes are the digest of the 16 before, passphrase and salt.
fn stretch(passphrase: &[u8], salt: &[u8], key_bytes: usize) -> Vec<u8> {
    let mut key: Vec<u8> = Vec::new();
    while key.len() < key_bytes {
        let before = &key[key.len().saturating_sub(16)..];
        let digest = Md5::new().chain_update(before).chain_update(passphrase).chain_update(salt);
        let digest = digest.finalize();
        key.extend_from_slice(&digest);
    }
    key.truncate(key_bytes);
    key
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.map(|pair| byte(pair).filter(|_| pair.len() == 2)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        let path = format!("{}/tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).expect("it is kept there")
    }

    /// Every form holds the same key: only its wrapping differs.
    #[test]
    fn all_forms_of_a_key_are_read() {
        let plain = |name: &str| read(&fixture(name), None).expect("it is plain");
        let secret = |name: &str| read(&fixture(name), Some(b"secret"));
        for (name, same) in [
            ("server-pbkdf2.key", "server.key"),
            ("server-scrypt.key", "server.key"),
            ("rsa-des3.key", "rsa.key"),
            ("rsa-dek-aes256.key", "rsa-pkcs1.key"),
            ("rsa-dek-aes128.key", "rsa-pkcs1.key"),
            ("rsa-dek-des3.key", "rsa-pkcs1.key"),
        ] {
            assert_eq!(secret(name).expect(name), plain(same), "{name}");
            assert_eq!(read(&fixture(name), None), Err(WANTS_PASSPHRASE.to_owned()), "{name}");
            let wrong = read(&fixture(name), Some(b"Secret"));
            // One in 256 wrong passphrases ends in what looks like padding; these do not.
            assert_eq!(wrong, Err(WRONG_PASSPHRASE.to_owned()), "{name}");
        }
        assert!(matches!(plain("server-sec1.key"), PrivateKeyDer::Sec1(_)));
        assert_eq!(secret("server.key").expect("a needless passphrase"), plain("server.key"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let old = |info: &str| {
            let text = format!(
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: {info}\n\n\
                 AAAA\n-----END RSA PRIVATE KEY-----\n"
            );
            read(text.as_bytes(), Some(b"secret")).expect_err(info)
        };
        assert_eq!(old("AES-256-CBC"), "bad DEK-Info header");
        assert_eq!(old("AES-256-CBC,0"), "bad DEK-Info header");
        assert_eq!(old("AES-256-CBC,éé"), "bad DEK-Info header");
        assert_eq!(old("AES-256-CBC,00"), WRONG_PASSPHRASE);
        assert_eq!(old("RC2-CBC,00"), "unsupported encryption of the key: RC2-CBC");
        assert!(read(&fixture("server.crt"), None).is_err());
        assert!(read(b"", None).is_err());
    }
}
