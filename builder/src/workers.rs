//! The same work on many things, on some threads at once.

use std::{
    collections::BTreeMap,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

/// So many items a thread are begun before `each` has had the first of them.
const AHEAD: usize = 2;

/// Lets each thread have a worker, and each item a worker; `each` gets what comes out, in the order of the items. However
/// long one of them takes, no more than two items a thread are begun that `each` has not had: what came out of the
/// later ones is in memory meanwhile.
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
    // Each lets one item be begun, in their order. All workers end when no more are to come.
    let (permit, permits) = mpsc::channel();
    let permits = Mutex::new(permits);
    let may_begin = || permits.lock().unwrap_or_else(PoisonError::into_inner).recv().is_ok();
    let (sender, results) = mpsc::channel();
    let run = |results: mpsc::Sender<_>| {
        let mut worker = worker();
        while may_begin() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else { return };
            // Whoever waits for this item has to hear of a panic, too.
            let result = catch_unwind(AssertUnwindSafe(|| work(&mut worker, item)));
            if results.send((number, result)).is_err() {
                return;
            }
        }
    };
    thread::scope(|scope| {
        // Gone with this closure, however that ends. Whoever takes permits is there for longer.
        let allow = move || {
            let _ = permit.send(());
        };
        (0..AHEAD * threads.get()).for_each(|_| allow());
        for _ in 0..threads.get().min(items.len()) {
            let (run, sender) = (&run, sender.clone());
            scope.spawn(move || run(sender));
        }
        drop(sender);
        let (mut early, mut wanted) = (BTreeMap::new(), 0);
        for (number, result) in results {
            early.insert(number, result.unwrap_or_else(|panic| resume_unwind(panic))?);
            while let Some(result) = early.remove(&wanted) {
                each(result)?;
                wanted += 1;
                allow();
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

    #[test]
    fn nobody_works_far_ahead_of_a_slow_item() {
        const MOST: usize = AHEAD * THREADS.get();
        let items: Vec<usize> = (0..500).collect();
        let (begun, had, farthest) =
            (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |_: &mut (), item: &usize| {
            begun.fetch_add(1, Ordering::SeqCst);
            farthest.fetch_max(item - had.load(Ordering::SeqCst), Ordering::SeqCst);
            if *item == 0 {
                while begun.load(Ordering::SeqCst) < MOST {
                    thread::yield_now();
                }
                // The others could go on now.
                (0..10_000).for_each(|_| thread::yield_now());
            }
            Ok::<_, ()>(())
        };
        let each = |()| {
            had.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        in_order(THREADS, &items, || (), work, each).unwrap();
        assert_eq!(farthest.into_inner(), MOST - 1);
        assert_eq!(had.into_inner(), items.len());
    }

    #[test]
    fn those_who_wait_hear_of_an_error_and_of_a_panic() {
        let items: Vec<usize> = (0..500).collect();
        for panics in [false, true] {
            let begun = AtomicUsize::new(0);
            let work = |_: &mut (), item: &usize| {
                begun.fetch_add(1, Ordering::SeqCst);
                if *item > 0 {
                    return Ok(());
                }
                // The others have done all that they may.
                while begun.load(Ordering::SeqCst) < AHEAD * THREADS.get() {
                    thread::yield_now();
                }
                if panics { resume_unwind(Box::new("panic")) } else { Err("error") }
            };
            let run = || in_order(THREADS, &items, || (), work, |()| Ok(()));
            match catch_unwind(AssertUnwindSafe(run)) {
                Ok(result) => assert_eq!((panics, result), (false, Err("error"))),
                Err(panic) => assert_eq!((panics, panic.downcast_ref()), (true, Some(&"panic"))),
            }
        }
    }
}
