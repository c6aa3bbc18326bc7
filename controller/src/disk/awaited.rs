//! Whether a disk may still be on its way.

use gse_protocol::config::drives::Drives;

use super::{
    choose::ChoiceError,
    plan::{self, DriveError},
    probe::BlockDevice,
    slots,
};

/// Whether the disks that `drives` names are there, with their partitions. `settled` is whether it is a while since anything
/// appeared: until then a disk that has nothing of ours, or that cannot be used, is not taken for the machine's, as the one
/// that has may be a moment slower.
pub fn all_there(drives: &Drives, devices: &[BlockDevice], settled: bool) -> bool {
    let all = match plan::plan(drives, devices) {
        Ok(plans) => plans.iter().all(|plan| {
            let begun = !plan.present.is_empty() || plan.steps.is_empty();
            (begun || settled) && plan.present.iter().all(|p| p.device.is_some())
        }),
        Err(e) => (settled || devices.iter().any(slots::has_ours)) && !may_still_come(&e),
    };
    all && !(drives.disk.is_empty() && devices.is_empty())
}

/// Whether waiting may help however long it is since anything appeared: a disk may still do so, but one that does not
/// suit will not change.
fn may_still_come(error: &DriveError) -> bool {
    matches!(error, DriveError::Choice(ChoiceError::NoDisks | ChoiceError::NoneFits { .. }))
}
