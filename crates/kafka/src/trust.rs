//! Why a broker's certificate is not accepted. librdkafka says only that it is not. OpenSSL's reason reaches a callback that
//! rdkafka has no name for, so once something has failed, a client of librdkafka's own is made for this one question.

use std::{
    ffi::{c_char, c_int, c_void},
    ptr,
    sync::atomic::{AtomicI32, Ordering},
    time::{Duration, Instant},
};

use rdkafka::{ClientConfig, bindings as ffi};

use crate::error::CertificateFault;

/// How long the brokers may take to show their certificate once more.
const PATIENCE: Duration = Duration::from_secs(3);
const POLL_MS: c_int = 20;

/// Connects once more, and says what is wrong with the certificate that comes.
pub(crate) fn fault(config: &ClientConfig) -> CertificateFault {
    named(asked(config).unwrap_or_default())
}

/// OpenSSL's `X509_V_ERR_…`.
fn named(x509_error: i32) -> CertificateFault {
    match x509_error {
        9 => CertificateFault::NotYetValid,
        10 => CertificateFault::Expired,
        // Its issuer cannot be found, or it is one that signed itself and is not known.
        2 | 18..=21 => CertificateFault::UnknownAuthority,
        23 => CertificateFault::Revoked,
        62 | 64 => CertificateFault::OtherName,
        other => CertificateFault::Other(other),
    }
}

#[expect(
    unsafe_code,
    reason = "rdkafka has no name for the callback that hears why a certificate is refused"
)]
fn asked(config: &ClientConfig) -> Option<i32> {
    let mut config = config.clone();
    // A consumer with a group connects without being asked to. What it has to say was said before.
    config.set("group.id", "twinlane-admin").set("log_level", "0").remove("debug");
    let settings = config.create_native_config().ok()?;
    let heard = AtomicI32::new(0);
    let mut why_not: [c_char; 256] = [0; 256];
    // SAFETY: `settings` lives until the end of this function, and the copy of it belongs to the client from
    // `rd_kafka_new` on, or is destroyed here when there is none. The callback gets `heard`, which outlives the client:
    // `rd_kafka_destroy_flags` returns after librdkafka's threads have ended.
    unsafe {
        let copy = ffi::rd_kafka_conf_dup(settings.ptr());
        ffi::rd_kafka_conf_set_opaque(copy, ptr::from_ref(&heard).cast_mut().cast());
        ffi::rd_kafka_conf_set_ssl_cert_verify_cb(copy, Some(hear));
        let kind = ffi::rd_kafka_type_t::RD_KAFKA_CONSUMER;
        let client = ffi::rd_kafka_new(kind, copy, why_not.as_mut_ptr(), why_not.len());
        if client.is_null() {
            ffi::rd_kafka_conf_destroy(copy);
            return None;
        }
        let until = Instant::now() + PATIENCE;
        while heard.load(Ordering::Acquire) == 0 && Instant::now() < until {
            ffi::rd_kafka_poll(client, POLL_MS);
        }
        ffi::rd_kafka_destroy_flags(client, ffi::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    }
    Some(heard.into_inner()).filter(|&error| error != 0)
}

/// librdkafka calls it for each certificate of a chain, with OpenSSL's verdict, and takes 0 for a refusal.
#[expect(unsafe_code, reason = "it is called from C")]
unsafe extern "C" fn hear(
    _client: *mut ffi::rd_kafka_t,
    _broker: *const c_char,
    _broker_id: i32,
    x509_error: *mut c_int,
    _depth: c_int,
    _certificate: *const c_char,
    _size: usize,
    _why: *mut c_char,
    _why_size: usize,
    heard: *mut c_void,
) -> c_int {
    // SAFETY: librdkafka passes its own variable and the opaque that `asked` has set, which lives as long as the client.
    let (error, heard) = unsafe { (*x509_error, &*heard.cast_const().cast::<AtomicI32>()) };
    if error != 0 {
        // The first is the reason; what follows are its consequences. A second one changes nothing.
        let _ = heard.compare_exchange(0, error, Ordering::AcqRel, Ordering::Acquire);
    }
    c_int::from(error == 0)
}
