//! IP addresses as the 4 or 16 bytes that the database keeps.

use std::net::IpAddr;

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Binary;

/// An address ready to be bound without an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Binary)]
pub(super) struct Address {
    bytes: [u8; 16],
    length: u8,
}

impl Address {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&v4.octets());
                Self { bytes, length: 4 }
            }
            IpAddr::V6(v6) => Self { bytes: v6.octets(), length: 16 },
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        match address.as_slice() {
            &[a, b, c, d] => Self::from([a, b, c, d]),
            _ => Self::from(address.bytes),
        }
    }
}

impl<DB> ToSql<Binary, DB> for Address
where
    DB: Backend,
    [u8]: ToSql<Binary, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.as_slice().to_sql(out)
    }
}

impl<DB> FromSql<Binary, DB> for Address
where
    DB: Backend,
    Vec<u8>: FromSql<Binary, DB>,
{
    fn from_sql(value: DB::RawValue<'_>) -> deserialize::Result<Self> {
        let stored = Vec::<u8>::from_sql(value)?;
        if let Ok(v4) = <[u8; 4]>::try_from(stored.as_slice()) {
            return Ok(Self::from(IpAddr::from(v4)));
        }
        match <[u8; 16]>::try_from(stored.as_slice()) {
            Ok(v6) => Ok(Self::from(IpAddr::from(v6))),
            Err(_) => Err(format!("an address has {} bytes instead of 4 or 16", stored.len()).into()),
        }
    }
}
