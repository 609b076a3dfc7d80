//! SQLite's statements for flows, written out.
//!
//! Diesel prepares an `ON CONFLICT ... DO UPDATE` anew each time it runs, which costs twenty times the insert
//! itself. As a query fragment with an identity of its own it is prepared once a connection. Postgres takes many
//! rows in one statement instead, where this does not matter.

use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, SmallInt};
use diesel::sqlite::Sqlite;
use diesel::{QueryResult, RunQueryDsl, SqliteConnection};

use super::flow_row::{EndedRow, OpenRow};

/// `INSERT INTO flows`.
#[derive(Clone, Copy)]
pub(super) struct InsertEnded<'a>(pub(super) &'a EndedRow);

/// `INSERT INTO open_flows`, or an update of everything but the id.
#[derive(Clone, Copy)]
pub(super) struct UpsertOpen<'a>(pub(super) &'a OpenRow);

/// The statement over the listed columns; `id` is the key and stands before them.
macro_rules! statement {
    ($name:ident, $table:literal, $conflict:expr, $($column:ident: $kind:ty),* $(,)?) => {
        impl QueryFragment<Sqlite> for $name<'_> {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
                out.push_sql(concat!("INSERT INTO ", $table, " (id", $(", ", stringify!($column),)* ") VALUES ("));
                out.push_bind_param::<BigInt, _>(&self.0.id)?;
                $(
                    out.push_sql(", ");
                    out.push_bind_param::<$kind, _>(&self.0.$column)?;
                )*
                out.push_sql(")");
                if $conflict {
                    out.push_sql(" ON CONFLICT (id) DO UPDATE SET id = excluded.id");
                    $(out.push_sql(concat!(", ", stringify!($column), " = excluded.", stringify!($column)));)*
                }
                Ok(())
            }
        }

        impl QueryId for $name<'_> {
            type QueryId = $name<'static>;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl RunQueryDsl<SqliteConnection> for $name<'_> {}
    };
}

macro_rules! statement_over_all_columns {
    ($name:ident, $table:literal, $conflict:expr) => {
        statement!(
            $name, $table, $conflict,
            router_id: BigInt,
            device_id: Nullable<BigInt>,
            host_id: Nullable<BigInt>,
            flow_id: Nullable<BigInt>,
            zone: Nullable<Integer>,
            conntrack_id: Nullable<Integer>,
            protocol: SmallInt,
            src_ip: Binary,
            src_port: Integer,
            dst_ip: Nullable<Binary>,
            dst_port: Nullable<Integer>,
            reply_src_ip: Nullable<Binary>,
            reply_src_port: Nullable<Integer>,
            reply_dst_ip: Nullable<Binary>,
            reply_dst_port: Nullable<Integer>,
            service_port: Integer,
            icmp_type: Nullable<SmallInt>,
            icmp_code: Nullable<SmallInt>,
            icmp_id: Nullable<Integer>,
            direction: SmallInt,
            bytes_orig: BigInt,
            bytes_reply: BigInt,
            packets_orig: BigInt,
            packets_reply: BigInt,
            bytes_orig_before: Nullable<BigInt>,
            bytes_reply_before: Nullable<BigInt>,
            packets_orig_before: Nullable<BigInt>,
            packets_reply_before: Nullable<BigInt>,
            first_seen_us: BigInt,
            lasted_us: BigInt,
            kernel_start_us: Nullable<BigInt>,
            tcp_state: SmallInt,
            status: Integer,
            mark: Nullable<Integer>,
            no_counters: Nullable<Bool>,
            end_kind: Nullable<SmallInt>,
            ends: Nullable<SmallInt>,
            domain_id: Nullable<BigInt>,
            domain_confidence: Nullable<SmallInt>,
            domain_reason: Nullable<SmallInt>,
        );
    };
}

statement_over_all_columns!(InsertEnded, "flows", false);
statement_over_all_columns!(UpsertOpen, "open_flows", true);
