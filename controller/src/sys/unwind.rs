//! What the standard library calls to walk the stack of a panic, in place of libunwind.
//!
//! The controller has no tables to walk by (`size.ld` takes them out), so each stack is empty. The optimiser sees that
//! here, and leaves out libunwind (53 KB), and what the standard library has to print a stack: a reader of
//! debug information, a demangler, a decompressor (150 KB). A panic still says where it was and why.

use std::ffi::{c_int, c_void};

type Pointer = *mut c_void;

/// Functions by the names and types by which the standard library's crate `unwind` declares them.
/// See <https://itanium-cxx-abi.github.io/cxx-abi/abi-eh.html>.
macro_rules! unwinder {
    ($($name:ident($($type:ty),*) -> $answer:ty = $value:expr;)*) => {$(
        // SAFETY: libunwind, the only other home of this name, is not linked: nothing is left that it is needed for.
        #[unsafe(no_mangle)]
        extern "C" fn $name($(_: $type),*) -> $answer { $value }
    )*};
}

/// `_URC_NO_REASON`: the whole stack was walked.
const NO_REASON: c_int = 0;

unwinder! {
    _Unwind_Backtrace(extern "C" fn(Pointer, Pointer) -> c_int, Pointer) -> c_int = NO_REASON;
    _Unwind_FindEnclosingFunction(Pointer) -> Pointer = std::ptr::null_mut();
    _Unwind_GetCFA(Pointer) -> usize = 0;
    _Unwind_GetDataRelBase(Pointer) -> usize = 0;
    _Unwind_GetIP(Pointer) -> usize = 0;
    _Unwind_GetIPInfo(Pointer, *mut c_int) -> usize = 0;
    _Unwind_GetLanguageSpecificData(Pointer) -> Pointer = std::ptr::null_mut();
    _Unwind_GetRegionStart(Pointer) -> usize = 0;
    _Unwind_GetTextRelBase(Pointer) -> usize = 0;
    _Unwind_Resume(Pointer) -> ! = std::process::abort();
    _Unwind_SetGR(Pointer, c_int, usize) -> () = ();
    _Unwind_SetIP(Pointer, usize) -> () = ();
}
