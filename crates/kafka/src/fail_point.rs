//! Points at which a test build of a service dies or stops, as if the machine had failed exactly there. The environment
//! variable `FAIL_POINT=<point>:<kill|stop>:<n>` arms one: at its n-th passage the process sends itself SIGKILL or
//! SIGSTOP. Without the feature `fail-points`, which no release has, nothing of this is compiled.

/// Passes a point of this name.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub(crate) fn pass(_point: &str) {}

/// Passes a point of this name.
#[cfg(feature = "fail-points")]
pub(crate) fn pass(point: &str) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };

    use nix::{sys::signal::kill, unistd::Pid};

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let Some(armed) = ARMED.get_or_init(Armed::from_environment) else { return };
    if armed.point == point && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == armed.nth {
        tracing::warn!(point, signal = %armed.signal, "fail point");
        kill(Pid::this(), armed.signal).expect("a process may signal itself");
    }
}

#[cfg(feature = "fail-points")]
struct Armed {
    point: String,
    signal: nix::sys::signal::Signal,
    nth: u64,
}

#[cfg(feature = "fail-points")]
impl Armed {
    /// `None` where nothing is armed. A value that cannot be read is a mistake of the test's author.
    #[expect(clippy::disallowed_methods, reason = "compiled into test builds alone, which no settings know")]
    fn from_environment() -> Option<Self> {
        use nix::sys::signal::Signal::{SIGKILL, SIGSTOP};
        let text = std::env::var("FAIL_POINT").ok()?;
        let parts: Vec<_> = text.split(':').collect();
        let [point, what, nth] = parts[..] else {
            panic!("FAIL_POINT is <point>:<kill|stop>:<n>, not {text}")
        };
        let signal = match what {
            "kill" => SIGKILL,
            "stop" => SIGSTOP,
            _ => panic!("FAIL_POINT kills or stops, and does not {what}"),
        };
        Some(Self { point: point.into(), signal, nth: nth.parse().expect("FAIL_POINT ends with a number") })
    }
}
