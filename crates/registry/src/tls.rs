//! Whom a client of HTTPS believes.

use std::sync::Arc;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// TLS that believes the certificates of these authorities, given as PEM; without them, the system's.
/// Refused in words, with the name of the setting that holds the authorities, when there is none to believe.
pub(crate) fn trust(setting: &str, authorities: Option<&[u8]>) -> std::result::Result<TlsConfig, String> {
    let roots: Vec<Certificate<'static>> = match authorities {
        Some(pem) => {
            let items: std::result::Result<Vec<_>, _> = parse_pem(pem).collect();
            let items = items.map_err(|error| format!("{setting}: {error}"))?;
            let certificates = items.into_iter().filter_map(|item| match item {
                PemItem::Certificate(certificate) => Some(certificate),
                _ => None,
            });
            certificates.collect()
        }
        None => {
            let found = rustls_native_certs::load_native_certs().certs;
            found.iter().map(|der| Certificate::from_der(der).to_owned()).collect()
        }
    };
    if roots.is_empty() {
        return Err(match authorities {
            Some(_) => format!("{setting} holds no certificate; give a PEM file"),
            None => format!("this system has no certificates to believe; give {setting}"),
        });
    }
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .build())
}
