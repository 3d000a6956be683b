//! Cache prefetch: asks the processor to fetch a line that will be needed soon.
//!
//! Batched lookups overlap their cache misses with it, which is worth a factor of five on a table
//! that does not fit the cache. The instruction is a hint: it cannot fault, it reads nothing the
//! program can observe, so the functions are safe for any address. The alternative refused is to
//! touch the line by a plain load, because a load waits for the miss once the reorder buffer is
//! full, and needs a valid address. Where the processor has no such instruction this is a no-op.
#![allow(unsafe_code)]

/// Prefetches the first cache line of a value.
#[inline(always)]
pub fn value<T>(value: &T) {
    address(std::ptr::from_ref(value).cast());
}

/// Prefetches the cache line that holds an address. The address may be anything.
#[inline(always)]
pub fn address(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: PREFETCHT0 never faults and changes no architectural state, whatever the
        // address; the intrinsic is unsafe only because it takes a raw pointer.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    {
        // SAFETY: PRFM never faults and changes no architectural state, whatever the address.
        unsafe {
            std::arch::asm!(
                "prfm pldl1keep, [{address}]",
                address = in(reg) address,
                options(nostack, preserves_flags, readonly),
            );
        }
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_address_may_be_prefetched() {
        super::value(&7u64);
        super::value(&());
        for address in [0usize, 1, 0x1000, usize::MAX / 2, usize::MAX] {
            super::address(std::ptr::without_provenance(address));
        }
    }
}
