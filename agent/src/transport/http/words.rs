//! Values as the original agent wrote them: bits, addresses, names of types, times.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use serde::{Serialize, Serializer};

use netmon_proto::STATUS_BITS;

use crate::names;

/// `SEEN_REPLY|ASSURED`, from CTA_STATUS.
pub(super) struct Flags(pub(super) u32);

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = STATUS_BITS.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 == 1);
        for (place, (_, name)) in set.enumerate() {
            f.write_str(if place == 0 { "" } else { "|" })?;
            f.write_str(name)?;
        }
        Ok(())
    }
}

/// Four or sixteen bytes; of any other length there is nothing to write.
pub(super) struct Address<'a>(pub(super) &'a [u8]);

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(v4) = <[u8; 4]>::try_from(self.0) {
            return Ipv4Addr::from(v4).fmt(f);
        }
        <[u8; 16]>::try_from(self.0).map_or(Ok(()), |v6| Ipv6Addr::from(v6).fmt(f))
    }
}

/// The mnemonic of an RR type.
pub(super) struct TypeName(pub(super) u32);

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&names::type_name(self.0))
    }
}

/// The mnemonic of a response code.
pub(super) struct RcodeName(pub(super) u32);

impl fmt::Display for RcodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&names::rcode_name(self.0))
    }
}

/// Microseconds since 1970, written as RFC 3339 in UTC without trailing zeros, as Go does.
#[derive(Clone, Copy)]
pub(super) struct Time(pub(super) i64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECOND: i64 = 1_000_000;
        const DAY: i64 = 86_400;
        let (seconds, micros) = (self.0.div_euclid(SECOND), self.0.rem_euclid(SECOND));
        let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        // Days to a date as in "chrono-Compatible Low-Level Date Algorithms": years begin in March.
        let since = days + 719_468;
        let era = since.div_euclid(146_097);
        let day_of_era = since.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if micros > 0 {
            let digits = format!("{micros:06}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

/// Serialized as they are displayed.
macro_rules! as_text {
    ($($name:ty),*) => {
        $(impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        })*
    };
}
as_text!(Flags, Address<'_>, TypeName, RcodeName, Time);
