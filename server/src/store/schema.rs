//! The tables as diesel sees them. `migrations/` makes them; the columns stand in the same order there.

diesel::table! {
    settings (key) {
        key -> Text,
        value -> Text,
    }
}

diesel::table! {
    id_blocks (name) {
        name -> Text,
        next_id -> BigInt,
    }
}

diesel::table! {
    routers (id) {
        id -> BigInt,
        name -> Text,
        first_seen_us -> BigInt,
        last_heard_us -> Nullable<BigInt>,
        lag_us -> Nullable<BigInt>,
        clock_skew_us -> Nullable<BigInt>,
        agent_version -> Nullable<Text>,
        hostname -> Nullable<Text>,
        kernel -> Nullable<Text>,
        os -> Nullable<Text>,
        architecture -> Nullable<Text>,
        open_flows -> Nullable<BigInt>,
        spool_bytes -> Nullable<BigInt>,
        memory_bytes -> Nullable<BigInt>,
        warnings -> Nullable<Text>,
    }
}

diesel::table! {
    devices (id) {
        id -> BigInt,
        router_id -> BigInt,
        identity -> Binary,
        address -> Binary,
        first_seen_us -> BigInt,
        last_seen_us -> BigInt,
        vendor_class -> Nullable<Text>,
        interface -> Nullable<Text>,
        lease_until_us -> Nullable<BigInt>,
        merged_into -> Nullable<BigInt>,
        root_id -> Nullable<BigInt>,
    }
}

diesel::table! {
    remote_hosts (id) {
        id -> BigInt,
        address -> Binary,
        first_seen_us -> BigInt,
        last_seen_us -> BigInt,
    }
}

diesel::table! {
    ingest_cursors (router_id, epoch) {
        router_id -> BigInt,
        epoch -> BigInt,
        last_sequence -> BigInt,
    }
}

/// `flows` and `open_flows` have the same columns.
macro_rules! flow_table {
    ($table:ident) => {
        diesel::table! {
            $table (id) {
                id -> BigInt,
                router_id -> BigInt,
                device_id -> Nullable<BigInt>,
                host_id -> Nullable<BigInt>,
                flow_id -> Nullable<BigInt>,
                zone -> Nullable<Integer>,
                conntrack_id -> Nullable<Integer>,
                protocol -> SmallInt,
                src_ip -> Binary,
                src_port -> Integer,
                dst_ip -> Nullable<Binary>,
                dst_port -> Nullable<Integer>,
                reply_src_ip -> Nullable<Binary>,
                reply_src_port -> Nullable<Integer>,
                reply_dst_ip -> Nullable<Binary>,
                reply_dst_port -> Nullable<Integer>,
                service_port -> Integer,
                icmp_type -> Nullable<SmallInt>,
                icmp_code -> Nullable<SmallInt>,
                icmp_id -> Nullable<Integer>,
                direction -> SmallInt,
                bytes_orig -> BigInt,
                bytes_reply -> BigInt,
                packets_orig -> BigInt,
                packets_reply -> BigInt,
                bytes_orig_before -> Nullable<BigInt>,
                bytes_reply_before -> Nullable<BigInt>,
                packets_orig_before -> Nullable<BigInt>,
                packets_reply_before -> Nullable<BigInt>,
                first_seen_us -> BigInt,
                lasted_us -> BigInt,
                kernel_start_us -> Nullable<BigInt>,
                tcp_state -> SmallInt,
                status -> Integer,
                mark -> Nullable<Integer>,
                no_counters -> Nullable<Bool>,
                end_kind -> Nullable<SmallInt>,
                ends -> Nullable<SmallInt>,
                domain_id -> Nullable<BigInt>,
                domain_confidence -> Nullable<SmallInt>,
                domain_reason -> Nullable<SmallInt>,
            }
        }
    };
}

flow_table!(flows);
flow_table!(open_flows);

// The rollups' tables are not here: `rollup_table` makes their SQL.

diesel::table! {
    removed_sums (name) {
        name -> Text,
        flows -> BigInt,
        bytes_orig -> BigInt,
        bytes_reply -> BigInt,
        packets_orig -> BigInt,
        packets_reply -> BigInt,
    }
}

diesel::table! {
    gaps (id) {
        id -> BigInt,
        router_id -> BigInt,
        cause -> SmallInt,
        count -> BigInt,
        from_us -> BigInt,
        to_us -> BigInt,
        detail -> Text,
    }
}

diesel::table! {
    raw_events (id) {
        id -> BigInt,
        router_id -> BigInt,
        kind -> SmallInt,
        time_us -> BigInt,
        payload -> Binary,
    }
}

diesel::table! {
    host_names (host_id) {
        host_id -> BigInt,
        name -> Nullable<Text>,
        asked_us -> BigInt,
        due_us -> BigInt,
    }
}

diesel::table! {
    host_whois (host_id) {
        host_id -> BigInt,
        answer -> Text,
        asked_us -> BigInt,
    }
}

diesel::table! {
    device_addresses (router_id, address) {
        router_id -> BigInt,
        address -> Binary,
        device_id -> BigInt,
        first_seen_us -> BigInt,
        last_seen_us -> BigInt,
    }
}

diesel::table! {
    device_names (device_id, source, name) {
        device_id -> BigInt,
        source -> SmallInt,
        name -> Text,
        first_seen_us -> BigInt,
        last_seen_us -> BigInt,
    }
}

diesel::table! {
    device_merges (id) {
        id -> BigInt,
        device_id -> BigInt,
        into_id -> BigInt,
        cause -> SmallInt,
        time_us -> BigInt,
        undone_us -> Nullable<BigInt>,
    }
}

diesel::table! {
    labels (id) {
        id -> BigInt,
        text -> Text,
    }
}

diesel::table! {
    domains (id) {
        id -> BigInt,
        name -> Text,
        first_seen_us -> BigInt,
        last_seen_us -> BigInt,
    }
}

diesel::table! {
    dns_queries (id) {
        id -> BigInt,
        router_id -> BigInt,
        device_id -> Nullable<BigInt>,
        domain_id -> BigInt,
        time_us -> BigInt,
        client_ip -> Binary,
        #[sql_name = "type"]
        kind -> Integer,
        rcode -> SmallInt,
        resolver_ip -> Nullable<Binary>,
        cached -> Bool,
    }
}

diesel::table! {
    dns_answers (query_id, position) {
        query_id -> BigInt,
        position -> SmallInt,
        domain_id -> BigInt,
        #[sql_name = "type"]
        kind -> Integer,
        address -> Nullable<Binary>,
        text -> Nullable<Text>,
        ttl_s -> Nullable<BigInt>,
    }
}

diesel::table! {
    dns_buckets (id) {
        id -> BigInt,
        router_id -> BigInt,
        device_id -> Nullable<BigInt>,
        bucket_start_us -> BigInt,
        client_ip -> Binary,
        #[sql_name = "type"]
        kind -> Text,
        name_hash -> Text,
        count -> BigInt,
        nxdomain -> BigInt,
    }
}

diesel::table! {
    firewall_drops (id) {
        id -> BigInt,
        router_id -> BigInt,
        device_id -> Nullable<BigInt>,
        host_id -> Nullable<BigInt>,
        time_us -> BigInt,
        hook -> SmallInt,
        prefix_id -> BigInt,
        nflog_group -> Integer,
        in_interface_id -> Nullable<BigInt>,
        out_interface_id -> Nullable<BigInt>,
        src_ip -> Binary,
        dst_ip -> Binary,
        src_port -> Integer,
        dst_port -> Integer,
        protocol -> SmallInt,
        tcp_flags -> Nullable<SmallInt>,
        icmp_type -> Nullable<SmallInt>,
        icmp_code -> Nullable<SmallInt>,
        src_mac -> Nullable<Binary>,
        length -> BigInt,
        left_out -> BigInt,
    }
}

diesel::table! {
    router_minutes (minute, router_id) {
        minute -> BigInt,
        router_id -> BigInt,
        interval_ms -> BigInt,
        load1_milli -> BigInt,
        load5_milli -> BigInt,
        load15_milli -> BigInt,
        memory_total_bytes -> BigInt,
        memory_available_bytes -> BigInt,
        swap_total_bytes -> BigInt,
        swap_free_bytes -> BigInt,
        disk_total_bytes -> BigInt,
        disk_free_bytes -> BigInt,
        disk_read_bytes -> BigInt,
        disk_written_bytes -> BigInt,
        uptime_s -> BigInt,
        conntrack_count -> BigInt,
        conntrack_max -> BigInt,
        temperature_milli_c -> Nullable<Integer>,
    }
}

diesel::table! {
    interface_minutes (minute, router_id, interface_id) {
        minute -> BigInt,
        router_id -> BigInt,
        interface_id -> BigInt,
        rx_bytes -> BigInt,
        tx_bytes -> BigInt,
        rx_packets -> BigInt,
        tx_packets -> BigInt,
        rx_errors -> BigInt,
        tx_errors -> BigInt,
        rx_dropped -> BigInt,
        tx_dropped -> BigInt,
        up -> Bool,
    }
}

diesel::table! {
    http_batches (router_id, digest) {
        router_id -> BigInt,
        digest -> Binary,
        time_us -> BigInt,
        accepted -> BigInt,
        rejected -> BigInt,
    }
}

diesel::table! {
    device_minutes (minute, router_id, device_id) {
        minute -> BigInt,
        router_id -> BigInt,
        device_id -> BigInt,
        flows -> BigInt,
        bytes_orig -> BigInt,
        bytes_reply -> BigInt,
        packets_orig -> BigInt,
        packets_reply -> BigInt,
    }
}

diesel::table! {
    baselines (device_id) {
        device_id -> BigInt,
        minutes -> Integer,
        bytes_orig_per_minute -> BigInt,
        flows_per_minute -> BigInt,
        ten_minutes -> Integer,
        new_hosts_per_ten_minutes -> BigInt,
        ports_per_ten_minutes -> BigInt,
        until_us -> BigInt,
    }
}

diesel::allow_tables_to_appear_in_same_query!(host_names, remote_hosts);
diesel::allow_tables_to_appear_in_same_query!(host_whois, remote_hosts);
diesel::allow_tables_to_appear_in_same_query!(
    flows,
    open_flows,
    devices,
    device_addresses,
    device_names,
    remote_hosts,
    routers,
    gaps,
    labels,
    domains,
    dns_queries,
    dns_answers,
    firewall_drops,
    router_minutes,
    interface_minutes,
);
