//! The same work on many things, on some threads at once.

use std::{
    collections::BTreeMap,
    num::NonZero,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

/// Lets each thread have a worker, and each item a worker; `each` gets what comes out, in the order of the items.
///
/// # Errors
/// The first of the workers or of `each`, after which no more items are begun.
pub(crate) fn in_order<I: Sync, W, T: Send, E: Send>(
    threads: NonZero<usize>,
    items: &[I],
    worker: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, &I) -> Result<T, E> + Sync,
    mut each: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    // Nobody works far ahead of `each`.
    let (sender, results) = mpsc::sync_channel(threads.get());
    let run = |results: mpsc::SyncSender<_>| {
        let mut worker = worker();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else { return };
            if results.send((number, work(&mut worker, item))).is_err() {
                return;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.get().min(items.len()) {
            let (run, sender) = (&run, sender.clone());
            scope.spawn(move || run(sender));
        }
        drop(sender);
        let (mut early, mut wanted) = (BTreeMap::new(), 0);
        for (number, result) in results {
            early.insert(number, result?);
            while let Some(result) = early.remove(&wanted) {
                each(result)?;
                wanted += 1;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const THREADS: NonZero<usize> = NonZero::new(4).unwrap();

    #[test]
    fn what_comes_out_is_in_the_order_of_what_went_in() {
        let items: Vec<u64> = (0..500).collect();
        let mut found = Vec::new();
        // The first of each ten takes longest.
        let work = |_: &mut (), item: &u64| {
            let turns = if item.is_multiple_of(10) { 20_000 } else { 1 };
            Ok::<_, ()>((0..turns).fold(*item, |number, _| std::hint::black_box(number)))
        };
        let each = |item| {
            found.push(item);
            Ok(())
        };
        in_order(THREADS, &items, || (), work, each).unwrap();
        assert_eq!(found, items);
    }

    #[test]
    fn an_error_of_either_side_ends_the_work() {
        let items: Vec<u32> = (0..500).collect();
        let begun = AtomicUsize::new(0);
        let work = |_: &mut (), item: &u32| {
            begun.fetch_add(1, Ordering::Relaxed);
            if *item == 20 { Err("worker") } else { Ok(*item) }
        };
        assert_eq!(in_order(THREADS, &items, || (), work, |_| Ok(())), Err("worker"));
        assert!(begun.load(Ordering::Relaxed) < 100, "{begun:?}");
        let work = |_: &mut (), item: &u32| Ok(*item);
        let each = |item| if item == 10 { Err("each") } else { Ok(()) };
        assert_eq!(in_order(THREADS, &items, || (), work, each), Err("each"));
    }
}
