//! The work of the hook points, a file for each part.

pub(super) mod catalyst;
pub(super) mod part_a;
pub(super) mod part_b;
pub(super) mod part_c;
pub(super) mod part_d;
pub(super) mod part_e;
pub(super) mod part_f;
pub(super) mod part_g;
pub(super) mod part_h;
pub(super) mod part_i;
pub(super) mod part_j;
pub(super) mod part_k;
pub(super) mod part_l;
