//! Chance, so that the machines of a room do not all do the same in the same second.

use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};

/// Any number. It is not for keys: what is good enough for those may be long in coming early in a boot.
pub fn chance() -> u32 {
    let mut bytes = [0; 4];
    // Kernels before 5.6 do not know the first flag. Without any, all machines are alike, which is no reason to stop.
    let _ = getrandom(&mut bytes, GetRandomFlags::INSECURE)
        .or_else(|_| getrandom(&mut bytes, GetRandomFlags::NONBLOCK));
    u32::from_ne_bytes(bytes)
}

/// A part of so many seconds, as `chance` chooses.
pub fn part(seconds: u32, chance: u32) -> Duration {
    Duration::from_millis(u64::from(seconds) * 1000 * u64::from(chance) / u64::from(u32::MAX))
}
