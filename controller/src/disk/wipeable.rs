//! The permission to format a partition.
//!
//! [`Wipeable`] is the only thing that [`mkfs`](super::mkfs) formats, and it can only be had for what holds
//! nothing that anybody needs: BOOTFS and USERDATAFS while they are blank, slots by their label.

use std::path::{Path, PathBuf};

use super::{
    content::{self, Content, ProbeError},
    slots::{Label, Place, Slot},
};

/// A partition that may be formatted.
#[derive(Debug, PartialEq, Eq)]
pub struct Wipeable {
    device: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Slot,
    Place(Label),
}

/// Why a partition may not be formatted.
#[derive(Debug, thiserror::Error)]
pub enum NotWipeable {
    /// It holds a system that is needed.
    #[error("{} holds {label}, and is not formatted before it has become DEPRIVED", .device.display())]
    Needed {
        /// The slot.
        device: PathBuf,
        /// Its label.
        label: Label,
    },
    /// It holds data, and is never formatted again.
    #[error("{} is the partition for {label}, and holds {holds}: it is never formatted again", .device.display())]
    Data {
        /// The partition.
        device: PathBuf,
        /// What it is for.
        label: Label,
        /// What it holds.
        holds: String,
    },
    /// The label is not for that partition.
    #[error("{} does not get the label {label}: that is for another kind of partition", .device.display())]
    WrongLabel {
        /// The partition.
        device: PathBuf,
        /// The label.
        label: Label,
    },
    /// It could not be looked at.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

impl Wipeable {
    /// A slot that nobody needs: blank, without one of our labels, DEPRIVED or INCOMING.
    ///
    /// # Errors
    /// A slot that holds SYSFS or BACKUPFS.
    pub fn free(slot: &Slot) -> Result<Self, NotWipeable> {
        match slot.label() {
            Some(label @ (Label::SysFs | Label::BackupFs)) => {
                Err(NotWipeable::Needed { device: slot.device.clone(), label })
            }
            _ => Ok(Self::slot(slot)),
        }
    }

    /// BOOTFS or USERDATAFS that was just made, and holds nothing.
    ///
    /// # Errors
    /// If it holds anything at all, by what was found before or by what is there now.
    pub fn blank(place: &Place) -> Result<Self, NotWipeable> {
        use gse_protocol::config::drives::Role;
        let label = match place.role {
            Role::Boot => Label::BootFs,
            Role::UserData | Role::System | Role::Backup => Label::UserDataFs,
        };
        if let Some(info) = &place.filesystem {
            let (device, holds) = (place.device.clone(), info.to_string());
            return Err(NotWipeable::Data { device, label, holds });
        }
        Ok(Self { device: place.device.clone(), kind: Kind::Place(label) })
    }

    fn slot(slot: &Slot) -> Self {
        Self { device: slot.device.clone(), kind: Kind::Slot }
    }

    /// The partition.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Whether it is a slot.
    pub fn is_slot(&self) -> bool {
        self.kind == Kind::Slot
    }

    /// The last look before it is formatted with `label`: the types rest on what was found earlier.
    pub(super) fn check(&self, label: Label) -> Result<(), NotWipeable> {
        let device = || self.device.clone();
        let fits = match self.kind {
            Kind::Slot => label.is_slot(),
            Kind::Place(own) => label == own,
        };
        if !fits {
            return Err(NotWipeable::WrongLabel { device: device(), label });
        }
        let content = content::content(&self.device)?;
        let data = |label, holds| Err(NotWipeable::Data { device: device(), label, holds });
        match (self.kind, content) {
            (_, Content::Blank) => Ok(()),
            (Kind::Slot, Content::Filesystem(info)) => match info.label.as_deref() {
                Some("BOOTFS") => data(Label::BootFs, info.to_string()),
                Some("USERDATAFS") => data(Label::UserDataFs, info.to_string()),
                _ => Ok(()),
            },
            (Kind::Slot, Content::Table(_) | Content::Unclear(_)) => Ok(()),
            (Kind::Place(label), Content::Filesystem(info)) => data(label, info.to_string()),
            (Kind::Place(label), Content::Table(kind)) => data(label, format!("a {kind} table")),
            (Kind::Place(label), Content::Unclear(why)) => data(label, why),
        }
    }
}
