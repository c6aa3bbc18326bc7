//! What must be true of every step and every end of a boot. None of it asks the rules that it checks.

use anyhow::{Context as _, Result, ensure};
use gse_controller::{
    decide::{Cause, NothingToBoot, Policy, Step, Why},
    facts::{Attempt, Facts, Role, SlotId},
};

use crate::{
    walk::Family,
    world::{Image, Plate, World, bit},
};

/// A moment in a boot.
pub(crate) struct Moment<'m> {
    pub(crate) family: &'m Family,
    pub(crate) policy: &'m Policy,
    /// The disks.
    pub(crate) world: &'m World,
    /// What the controller believes.
    pub(crate) facts: &'m Facts,
    /// A step failed in this boot.
    pub(crate) failures: bool,
}

impl Moment<'_> {
    /// A system that would start, if it were booted: with a valid signature, an init, and a filesystem.
    pub(crate) fn starts(&self, plate: &Plate) -> Option<Image> {
        plate.image().filter(|image| !plate.rotten && Some(image.serial) != self.family.no_init)
    }

    /// Those that a later boot may start.
    fn standing(&self) -> impl Iterator<Item = (usize, Image)> {
        let plates = self.world.plates().iter().enumerate().filter(|(_, plate)| plate.counts());
        plates.filter_map(|(n, plate)| Some((n, self.starts(plate)?)))
    }

    pub(crate) fn check_step(&self, step: Step, cause: &Cause) -> Result<()> {
        if *cause == Cause::Wipe {
            self.check_wipe(step)?;
        }
        let SlotId(n) = step.slot();
        let plate = &self.world.plates[n];
        match step {
            Step::Relabel(_, role) => {
                ensure!(plate.role != Role::Deprived, "a deprived system came back by itself");
                ensure!(self.failures || plate.role != role, "a label that is there already");
                ensure!(role != Role::Free && role != Role::Incoming, "a label for formatting");
                if role == Role::Deprived && plate.counts() && *cause != Cause::Wipe {
                    self.check_loss(n)?;
                }
            }
            Step::Format(_) => {
                let label = self.facts.slots[n].role;
                ensure!(!matches!(label, Role::System | Role::Backup), "formats a {label:?}");
                if plate.counts() {
                    self.check_loss(n)?;
                }
            }
            Step::Install(_) => {
                ensure!(self.facts.slots[n].session.blank, "installs over something");
                ensure!(self.facts.attempt == Attempt::None, "installs twice");
                let serial = self.facts.offer.as_ref().context("installs nothing")?.serial;
                ensure!(self.world.failed & bit(serial) == 0, "a failed serial came back");
            }
            Step::Clone { from, .. } => {
                ensure!(self.facts.slots[n].session.blank, "clones over something");
                let original = self.starts(&self.world.plates[from.0]);
                ensure!(original.is_some_and(|image| image.healthy), "clones what is unproven");
            }
            Step::Refuse(..) | Step::Check(_) | Step::Open(_) => {}
        }
        Ok(())
    }

    /// What is wiped was made before the order; and what comes after it stands, or is at hand.
    fn check_wipe(&self, step: Step) -> Result<()> {
        let SlotId(n) = step.slot();
        let plates = self.world.plates();
        let made = self.standing().any(|(other, _)| other != n && plates[other].wiped);
        let at_hand = self.facts.offer.is_some() && self.facts.attempt == Attempt::None;
        let safe = self.world.slots == 1 || self.standing().any(|(other, _)| other != n);
        ensure!(made || at_hand && safe, "wipes the last system, and nothing is at hand");
        let removes = matches!(step, Step::Relabel(..) | Step::Format(_));
        let old = !plates[n].wiped || !plates[n].counts();
        ensure!(!removes || old, "wipes what was made after the order");
        Ok(())
    }

    /// Slot `n` is about to be lost: another that is as good has to stand.
    fn check_loss(&self, n: usize) -> Result<()> {
        let Some(image) = self.starts(&self.world.plates[n]) else { return Ok(()) };
        let mut others = self.standing().filter(|(other, _)| *other != n);
        ensure!(
            others.any(|(_, other)| other.healthy || !image.healthy),
            "gives up the last {}",
            if image.healthy { "healthy system" } else { "system that starts" }
        );
        Ok(())
    }

    pub(crate) fn check_boot(&self, SlotId(n): SlotId, why: &Why) -> Result<()> {
        let plate = &self.world.plates[n];
        let image = self.starts(plate).context("boots what does not start")?;
        ensure!(
            self.failures || plate.role == Role::System,
            "boots a {:?} though nothing went wrong",
            plate.role
        );
        ensure!(plate.role != Role::Deprived, "boots what was deprived");
        let unhealthy = image.is_unhealthy(self.policy);
        ensure!(
            self.failures || unhealthy == matches!(why, Why::LastResort { .. }),
            "{why:?} though unhealthy is {unhealthy}"
        );
        if unhealthy && !self.failures {
            let better = self.standing().find(|(other, image)| *other != n && image.healthy);
            ensure!(better.is_none(), "boots what failed, and {better:?} stands");
        }
        Ok(())
    }

    pub(crate) fn check_rescue(&self, why: &NothingToBoot) -> Result<()> {
        let unstartable = |n: usize| self.facts.slots[n].session.unstartable.is_some();
        let standing = self.standing().find(|(n, _)| !unstartable(*n));
        ensure!(standing.is_none(), "rescue, though {standing:?} stands: {why}");
        ensure!(
            self.world.faulty || self.failures || !self.world.installed,
            "{why}: nothing is damaged, and a system was installed"
        );
        if let Some(offer) = &self.facts.offer
            && self.facts.attempt == Attempt::None
            && !self.failures
        {
            let refused = self.facts.refused().contains(offer.serial);
            ensure!(refused, "{why}: a system is offered");
        }
        Ok(())
    }
}
