//! Work for all cores.

use std::{
    cmp::Reverse,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// `work` done to each item on all cores; the results are in the items' order. The first error in that
/// order is the answer where there is one.
pub(super) fn map<T: Sync, R: Send, E: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    map_largest_first(items, |_| 0, work)
}

/// As [`map`]; those of the largest `size` are begun first, so that no core is left alone with one at the end.
pub(super) fn map_largest_first<T: Sync, R: Send, E: Send>(
    items: &[T],
    size: impl Fn(&T) -> usize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let mut order: Vec<(usize, &T)> = items.iter().enumerate().collect();
    order.sort_by_key(|(_, item)| Reverse(size(item)));
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let next = next.fetch_add(1, Ordering::Relaxed);
            let Some((index, item)) = order.get(next) else { return done };
            done.push((*index, work(item)));
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    let mut done = thread::scope(|scope| {
        let others: Vec<_> = (1..cores).map(|_| scope.spawn(worker)).collect();
        let mut done = worker();
        for other in others {
            match other.join() {
                Ok(part) => done.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let items: Vec<u32> = (0..1000).collect();
        let doubled = map(&items, |n| Ok::<_, ()>(n * 2)).unwrap();
        assert_eq!(doubled, (0..1000).map(|n| n * 2).collect::<Vec<_>>());
        assert_eq!(map(&[] as &[u32], |n| Ok::<_, ()>(*n)).unwrap(), [] as [u32; 0]);
    }

    #[test]
    fn what_is_begun_first_does_not_change_their_order() {
        let items: Vec<usize> = (0..1000).map(|n| n * 7 % 1000).collect();
        let same = map_largest_first(&items, |n| *n, |n| Ok::<_, ()>(*n)).unwrap();
        assert_eq!(same, items);
    }

    #[test]
    fn the_first_error_is_the_answer() {
        let items: Vec<u32> = (0..1000).collect();
        let odd = map(&items, |n| if n % 2 == 1 { Err(*n) } else { Ok(()) });
        assert_eq!(odd, Err(1));
    }
}
