//! Where every failure ends: what went wrong, what can be done, and a way out.
//!
//! The shell is for who knows the password whose hash is in the configuration. Without a hash there is
//! no shell: pulling a network cable must not give anybody root.

use std::{fs, path::Path, process::Command, time::Duration};

use gse_protocol::config;
use sha_crypt::{PasswordVerifier as _, ShaCrypt};

use crate::{
    boot_log::{self, Outcome},
    console::{self, Input, say},
    dice,
    log::Log,
    supervisor::FAILURE,
};

/// How long the message of a rescue that itself broke stays.
pub const BROKEN_DELAY: Duration = Duration::from_secs(60);
/// What the configuration says about rescue, left by the worker. Not the hash of a stranger's: it comes
/// out of a verified configuration.
pub const POLICY: &str = "/run/gse/rescue.json";
/// How many lines of the kernel log are shown.
const LOG_LINES: usize = 12;
const SHELLS: [&str; 3] = ["/bin/sh", "/bin/busybox", "/bin/bash"];

/// How a rescue ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The boot is tried again, from the start.
    Retry,
    /// The machine restarts.
    Reboot,
    /// The machine is switched off.
    PowerOff,
}

impl Choice {
    /// The exit code by which the rescue process tells the supervisor.
    pub fn code(self) -> i32 {
        match self {
            Self::Retry => 10,
            Self::Reboot => 11,
            Self::PowerOff => 12,
        }
    }

    /// The choice behind an exit code.
    pub fn from_code(code: i32) -> Option<Self> {
        [Self::Retry, Self::Reboot, Self::PowerOff].into_iter().find(|c| c.code() == code)
    }

    fn from_word(word: &str) -> Option<Self> {
        match word.trim() {
            "r" | "retry" => Some(Self::Retry),
            "b" | "reboot" => Some(Self::Reboot),
            "o" | "off" | "poweroff" => Some(Self::PowerOff),
            _ => None,
        }
    }
}

/// Talks to the person, if there is one.
pub fn run() -> Choice {
    let policy = policy();
    let reason =
        fs::read_to_string(FAILURE).unwrap_or_else(|_| "the reason was not kept".to_owned());
    boot_log::keep(Outcome::Failed(&reason), &Log::new(false));
    let wait = unattended(policy.reboot_after, dice::chance());
    let program = SHELLS.into_iter().find(|path| Path::new(path).exists());
    let shell = program.zip(policy.password.as_deref());

    say("\n--- GSE rescue -------------------------------------------------------------");
    for line in log_tail(&boot_log::kernel_log(), LOG_LINES) {
        say(format_args!("  {line}"));
    }
    say("----------------------------------------------------------------------------");
    say(format_args!("This machine could not start: {}", reason.trim()));
    say("Nothing on its disks is lost. You can:");
    say("  r  retry, after mending what is named above (a cable, the server, a disk)");
    say("  b  reboot        o  switch off");
    match shell {
        Some(_) => say("  s  a shell, with the lab's rescue password"),
        None => say(format_args!("  (no shell: {})", why_no_shell(&policy))),
    }
    say(format_args!(
        "Without a key press it reboots in {} s, or somewhat later.",
        policy.reboot_after
    ));

    console::drop_typed();
    loop {
        match console::ask("rescue> ", wait) {
            Input::Silence => return Choice::Reboot,
            Input::Closed => {
                // No keyboard at all: the person, if any, only has the screen.
                std::thread::sleep(wait);
                return Choice::Reboot;
            }
            Input::Line(word) => match (Choice::from_word(&word), word.trim(), shell) {
                (Some(choice), _, _) => return choice,
                (None, "s" | "shell", Some((shell, hash))) => open_shell(shell, hash, wait),
                (None, "", _) => {}
                (None, _, _) => {
                    say(format_args!("r, b or o{}", if shell.is_some() { ", or s" } else { "" }))
                }
            },
        }
    }
}

/// How long a machine waits for a person. Those of a room that found no server stopped at the same time: they are not to
/// come back in the same second.
fn unattended(seconds: u32, chance: u32) -> Duration {
    Duration::from_secs(u64::from(seconds)) + dice::part(seconds / 4, chance)
}

fn why_no_shell(policy: &config::boot::Rescue) -> &'static str {
    match policy.password {
        None => "the configuration has no rescue.password",
        Some(_) => {
            "this initramfs was built without one; build the controller again, now that there is a rescue.password"
        }
    }
}

fn open_shell(shell: &str, hash: &str, wait: Duration) {
    let Input::Line(password) = console::ask_secret("Rescue password: ", wait) else { return };
    if !is_password(&password, hash) {
        // Each wrong guess costs time; SHA-crypt's own rounds cost the rest.
        std::thread::sleep(Duration::from_secs(2));
        say("That is not the rescue password.");
        return;
    }
    say("Leave the shell with `exit` to come back here.");
    let mut command = Command::new(shell);
    if shell.ends_with("busybox") {
        command.arg("sh");
    }
    command.env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin").env("HOME", "/").env("TERM", "linux");
    if let Err(e) = command.status() {
        say(format_args!("{shell} could not be started: {e}"));
    }
}

/// Whether `hash`, as `openssl passwd -6` prints it, is that of `password`.
pub fn is_password(password: &str, hash: &str) -> bool {
    !password.is_empty() && ShaCrypt::default().verify_password(password.as_bytes(), hash).is_ok()
}

/// Leaves the configured policy for a rescue that may come.
pub fn store_policy(policy: &config::boot::Rescue) -> std::io::Result<()> {
    let json = serde_json::json!({
        "password": policy.password,
        "reboot_after": policy.reboot_after,
    });
    crate::files::write_private(Path::new(POLICY), json.to_string().as_bytes())
}

/// The policy that the worker left; the default, which has no shell, where it did not get so far.
fn policy() -> config::boot::Rescue {
    fs::read(POLICY).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// The last lines of the kernel's log, without their times.
fn log_tail(kmsg: &str, last: usize) -> Vec<&str> {
    let all: Vec<&str> = boot_log::lines(kmsg).map(|(_, text)| text).collect();
    all.get(all.len().saturating_sub(last)..).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    // openssl passwd -6 -salt saltstring secret
    const HASH: &str = "$6$saltstring$AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz.";

    #[test]
    fn only_the_password_of_the_hash_opens_the_shell() {
        assert!(is_password("secret", HASH));
        for wrong in ["", "Secret", "secret ", HASH] {
            assert!(!is_password(wrong, HASH), "{wrong:?}");
        }
        for hash in ["", "secret", "$6$", "$6$saltstring$", "*", "!"] {
            assert!(!is_password("secret", hash), "{hash:?}");
        }
    }

    #[test]
    fn who_has_set_a_password_is_told_to_build_the_image_again() {
        let mut policy = config::boot::Rescue::default();
        assert!(why_no_shell(&policy).contains("no rescue.password"));
        policy.password = Some(HASH.to_owned());
        assert!(why_no_shell(&policy).contains("build the controller again"));
    }

    #[test]
    fn who_was_stopped_with_a_whole_room_comes_back_up_to_a_quarter_later() {
        for (seconds, chance, expected) in [
            (300, 0, 300_000),
            (300, u32::MAX / 2, 337_499),
            (300, u32::MAX, 375_000),
            (2, u32::MAX, 2_000),
        ] {
            assert_eq!(unattended(seconds, chance).as_millis(), expected);
        }
    }

    #[test]
    fn a_choice_survives_the_way_to_the_supervisor() {
        for (word, choice) in
            [("r", Choice::Retry), ("reboot", Choice::Reboot), (" o ", Choice::PowerOff)]
        {
            assert_eq!(Choice::from_word(word), Some(choice));
            assert_eq!(Choice::from_code(choice.code()), Some(choice));
        }
        assert_eq!(Choice::from_word("sh"), None);
        for code in [0, 1, 101] {
            assert_eq!(Choice::from_code(code), None, "{code}");
        }
    }

    #[test]
    fn the_log_shows_its_last_lines_without_numbers() {
        let kmsg = "6,1,0,-;one\n SUBSYSTEM=pci\n4,2,0,-;two\n6,3,0,-;three; and more\n";
        assert_eq!(log_tail(kmsg, 2), ["two", "three; and more"]);
        assert_eq!(log_tail("", 2), Vec::<&str>::new());
    }
}
