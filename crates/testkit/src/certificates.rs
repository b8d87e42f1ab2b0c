//! Certificates of an authority that lives as long as a test, made by the `keytool` that comes with Java.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::broker::java;
use crate::{Error, Result};

/// What every keystore here is locked with.
pub const STORE_PASSWORD: &str = "of-the-store";

/// An authority and what it has signed, in a folder of its own.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
    keytool: PathBuf,
}

impl Authority {
    /// Makes one.
    ///
    /// # Errors
    /// When `keytool` is missing or refuses.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir().map_err(Error::io("creating a folder for certificates"))?;
        let authority = Self { folder, keytool: java()?.with_file_name("keytool") };
        let store = authority.store("authority");
        authority.keytool(
            &store,
            &["-genkeypair", "-alias", AUTHORITY, "-dname", "CN=test authority", "-ext", "bc:c"],
            KEYS,
        )?;
        let pem = authority.pem();
        authority.keytool(
            &store,
            &["-exportcert", "-rfc", "-alias", AUTHORITY, "-file", &pem.to_string_lossy()],
            &[],
        )?;
        Ok(authority)
    }

    /// Its own certificate, as PEM.
    pub fn pem(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// A PKCS#12 keystore with a key and a certificate for `name`, valid on this machine's address until `days` after
    /// `start` (as keytool's `-startdate`).
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn sign(&self, name: &str, start: &str, days: u32) -> Result<PathBuf> {
        let store = self.store(name);
        std::fs::copy(self.store("authority"), &store).map_err(Error::io("copying a keystore"))?;
        let (named, days) = (format!("CN={name}"), days.to_string());
        let of = ["-genkeypair", "-alias", "signed", "-signer", AUTHORITY, "-dname", &named];
        let valid = ["-ext", "san=ip:127.0.0.1", "-startdate", start, "-validity", &days];
        self.keytool(&store, &[&of[..], &valid].concat(), KEYS)?;
        // A server would be free to show this one instead.
        self.keytool(&store, &["-delete", "-alias", AUTHORITY], &[])?;
        Ok(store)
    }

    fn keytool(&self, store: &Path, words: &[&str], more: &[&str]) -> Result<()> {
        let output = Command::new(&self.keytool)
            .args(["-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC"])
            .args(words)
            .args(more)
            .args(["-storetype", "PKCS12", "-storepass", STORE_PASSWORD, "-keystore"])
            .arg(store)
            .output()
            .map_err(|_| Error::Missing {
                program: "keytool (of Java 17)",
                remedy: "apt-get install openjdk-17-jre-headless",
            })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Err(Error::io(format!("keytool {}", words.join(" ")))(std::io::Error::other(said)))
    }

    fn store(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.p12"))
    }
}

const AUTHORITY: &str = "authority";
const KEYS: &[&str] = &["-keyalg", "EC", "-groupname", "secp256r1"];
