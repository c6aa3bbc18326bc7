//! Places for connections: how many there are, and how many of them clients with one address may have.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A number of places. One address may have half of them: a room behind a proxy or NAT has one address, and needs many;
/// but whoever takes all that it can get leaves the other half to the others.
pub(super) struct Places {
    number: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

impl Places {
    pub(super) fn new(number: usize) -> Arc<Self> {
        Arc::new(Self { number, taken: Mutex::default() })
    }

    /// A place for a client with this address, if there is one; free again when it is dropped.
    pub(super) fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        // As a socket for both has it, an IPv4 address may be written as one of IPv6.
        let client = client.to_canonical();
        let mut taken = self.taken();
        let all: usize = taken.values().sum();
        let own = taken.get(&client).copied().unwrap_or(0);
        if all >= self.number || own >= self.number.div_ceil(2) {
            return None;
        }
        taken.insert(client, own + 1);
        Some(Place { places: Arc::clone(self), client })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the [`Places`].
pub(super) struct Place {
    places: Arc<Places>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        match taken.get_mut(&self.client) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.remove(&self.client)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_half_of_the_places_and_others_the_rest() {
        let [a, b, c] = ["10.0.0.1", "2001:db8::1", "10.0.0.2"].map(|a| a.parse().unwrap());
        let places = Places::new(5);
        let of_a: Vec<_> = (0..3).map(|_| places.take(a).unwrap()).collect();
        assert!(places.take(a).is_none());
        assert!(places.take("::ffff:10.0.0.1".parse().unwrap()).is_none());
        let of_b: Vec<_> = (0..2).map(|_| places.take(b).unwrap()).collect();
        assert!(places.take(c).is_none(), "there are five");
        drop(of_a);
        let of_c: Vec<_> = (0..3).map(|_| places.take(c).unwrap()).collect();
        assert!(places.take(a).is_none(), "there are five");
        drop((of_b, of_c));
        assert!(places.taken().is_empty());
    }

    #[test]
    fn the_only_place_is_for_anybody() {
        let places = Places::new(1);
        let place = places.take("10.0.0.1".parse().unwrap());
        assert!(place.is_some() && places.take("10.0.0.2".parse().unwrap()).is_none());
    }
}
