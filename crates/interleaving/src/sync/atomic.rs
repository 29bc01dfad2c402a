//! What the crates under test use of `std::sync::atomic`, each step in its turn.

use std::sync::atomic;
pub use std::sync::atomic::Ordering;

use super::turn;

/// An atomic of std whose steps take turns.
macro_rules! atomic {
    ($name:ident, $value:ty, $($step:ident)*) => {
        #[doc = concat!("[`std::sync::atomic::", stringify!($name), "`].")]
        #[derive(Debug, Default)]
        pub struct $name(atomic::$name);

        impl $name {
            /// As in std.
            pub const fn new(value: $value) -> Self {
                Self(atomic::$name::new(value))
            }

            /// As in std.
            pub fn load(&self, order: Ordering) -> $value {
                turn();
                self.0.load(order)
            }

            /// As in std.
            pub fn store(&self, value: $value, order: Ordering) {
                turn();
                self.0.store(value, order);
            }

            $(
                /// As in std.
                pub fn $step(&self, value: $value, order: Ordering) -> $value {
                    turn();
                    self.0.$step(value, order)
                }
            )*
        }
    };
}

atomic!(AtomicBool, bool, swap);
atomic!(AtomicU64, u64, swap fetch_add fetch_sub fetch_max fetch_min);
atomic!(AtomicUsize, usize, swap fetch_add fetch_sub fetch_max fetch_min);
