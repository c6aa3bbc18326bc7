//! The devices that are there when the controller starts.

use std::{fs, path::Path};

/// Where sysfs has modaliases of what is on no bus.
const ELSEWHERE: [&str; 2] = ["class/dmi/id/modalias", "devices/system/cpu/modalias"];

/// Calls `found` with the modalias of each device. `sys` is where sysfs is mounted.
///
/// The lists of the buses are short. All of `devices` is thousands of directories, of queues and settings mostly; to
/// look through that took longer than to load the drivers.
pub(super) fn modaliases(sys: &Path, found: &mut dyn FnMut(&str)) {
    let mut read = |path: &Path| {
        // Devices come and go while this runs: what cannot be read is not there any more.
        let text = fs::read_to_string(path).unwrap_or_default();
        let modalias = text.trim_end();
        if !modalias.is_empty() {
            found(modalias);
        }
    };
    for bus in entries(&sys.join("bus")) {
        for device in entries(&bus.path().join("devices")) {
            read(&device.path().join("modalias"));
        }
    }
    ELSEWHERE.iter().for_each(|place| read(&sys.join(place)));
}

fn entries(directory: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(directory).into_iter().flatten().flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_modalias_of_this_machine_is_missed() {
        let mut found = BTreeSet::new();
        modaliases(Path::new("/sys"), &mut |modalias| {
            found.insert(modalias.to_owned());
        });
        let mut all = BTreeSet::new();
        walk(Path::new("/sys/devices"), &mut all);
        assert!(!all.is_empty());
        assert!(all.is_subset(&found), "missed: {:?}", all.difference(&found));
    }

    fn walk(directory: &Path, all: &mut BTreeSet<String>) {
        for entry in entries(directory) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                walk(&entry.path(), all);
            } else if entry.file_name() == "modalias" {
                let text = fs::read_to_string(entry.path()).unwrap();
                all.extend((!text.trim_end().is_empty()).then(|| text.trim_end().to_owned()));
            }
        }
    }
}
