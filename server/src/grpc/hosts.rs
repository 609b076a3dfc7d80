//! The console's lists of remote hosts and of domains.

use std::sync::Arc;

use netmon_proto::v1;
use tonic::Status;

use super::lists::List;
use super::values::{self, address, text};
use crate::{
    enrich::Enrichment,
    store::{Count, DomainFilter, DomainRow, HostFilter, HostRow, Page, PageOf, Reader, StoreError},
};

impl List for v1::ListHostsRequest {
    type Filter = HostFilter;
    type Row = HostRow;
    type Entry = v1::RemoteHost;

    const NAME: &'static str = "console hosts";

    fn take_page(&mut self) -> Option<v1::PageRequest> {
        self.page.take()
    }

    fn filter(&self, _reader: &Reader) -> Result<HostFilter, Status> {
        Ok(HostFilter {
            address: address("address", &self.address)?,
            text: text("text", &self.text)?,
            sort: values::host_order(self.order)?,
            elsewhere: None,
        })
    }

    fn with_known(filter: HostFilter, known: &Arc<Enrichment>) -> HostFilter {
        HostFilter { elsewhere: Some(known.of_hosts()), ..filter }
    }

    fn page(reader: &Reader, filter: &HostFilter, page: Page) -> Result<PageOf<HostRow>, StoreError> {
        reader.hosts(filter, page)
    }

    fn count(reader: &Reader, filter: &HostFilter, limit: u32) -> Result<Count, StoreError> {
        reader.count_hosts(filter, limit)
    }

    fn entry(row: HostRow, known: &Enrichment) -> v1::RemoteHost {
        let network = known.networks.find(row.address);
        v1::RemoteHost {
            id: row.id,
            address: row.address.to_string(),
            name: row.name.unwrap_or_default(),
            asn: network.asn.unwrap_or_default(),
            organisation: network.organisation.unwrap_or_default(),
            country: network.country.unwrap_or_default(),
            first_seen_us: row.first_seen,
            last_seen_us: row.last_seen,
        }
    }
}

impl List for v1::ListDomainsRequest {
    type Filter = DomainFilter;
    type Row = DomainRow;
    type Entry = v1::Domain;

    const NAME: &'static str = "console domains";

    fn take_page(&mut self) -> Option<v1::PageRequest> {
        self.page.take()
    }

    fn filter(&self, _reader: &Reader) -> Result<DomainFilter, Status> {
        Ok(DomainFilter { text: text("text", &self.text)?, sort: values::domain_order(self.order)? })
    }

    fn page(reader: &Reader, filter: &DomainFilter, page: Page) -> Result<PageOf<DomainRow>, StoreError> {
        reader.domains(filter, page)
    }

    fn count(reader: &Reader, filter: &DomainFilter, limit: u32) -> Result<Count, StoreError> {
        reader.count_domains(filter, limit)
    }

    fn entry(row: DomainRow, _known: &Enrichment) -> v1::Domain {
        v1::Domain { id: row.id, name: row.name, first_seen_us: row.first_seen, last_seen_us: row.last_seen }
    }
}
