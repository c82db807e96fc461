//! The commands of the KV service: their requests, their answers.

use kvorum::pb::{self, request_op, response_op};

use super::line::{Line, Outcome};
use super::print::{self, Printer};

/// Reads `range KEY [end=] [limit=] [rev=] [sort=ORDER/TARGET] [min_mod=] [max_mod=]
/// [min_create=] [max_create=] [serializable] [keys_only] [count_only]`.
pub fn range_request(mut line: Line) -> Outcome<pb::RangeRequest> {
    let (sort_order, sort_target) = sort(line.named_text("sort")?)?;
    let request = pb::RangeRequest {
        key: line.word("key")?.into(),
        range_end: line.named("end").unwrap_or_default().into(),
        limit: line.named_number("limit")?,
        revision: line.named_number("rev")?,
        sort_order,
        sort_target,
        serializable: line.flag("serializable"),
        keys_only: line.flag("keys_only"),
        count_only: line.flag("count_only"),
        min_mod_revision: line.named_number("min_mod")?,
        max_mod_revision: line.named_number("max_mod")?,
        min_create_revision: line.named_number("min_create")?,
        max_create_revision: line.named_number("max_create")?,
    };
    line.finish()?;
    Ok(request)
}

/// `ORDER/TARGET`, each a name or, to ask for what does not exist, a number.
fn sort(text: Option<String>) -> Outcome<(i32, i32)> {
    let Some(text) = text else {
        return Ok((0, 0));
    };
    let (order, target) = text.split_once('/').ok_or("sort takes ORDER/TARGET")?;
    let named_order = pb::range_request::SortOrder::from_str_name(order);
    let named_target = pb::range_request::SortTarget::from_str_name(target);
    let order = named_order.map_or_else(|| order.parse(), |order| Ok(order as i32))?;
    let target = named_target.map_or_else(|| target.parse(), |target| Ok(target as i32))?;
    Ok((order, target))
}

/// Reads `put KEY [VALUE] [size=] [lease=] [prev_kv] [ignore_value] [ignore_lease]`.
pub fn put_request(mut line: Line) -> Outcome<pb::PutRequest> {
    let key = line.word("key")?.into();
    let size = usize::try_from(line.named_number("size")?)?;
    let mut request = pb::PutRequest {
        key,
        lease: line.named_number("lease")?,
        prev_kv: line.flag("prev_kv"),
        ignore_value: line.flag("ignore_value"),
        ignore_lease: line.flag("ignore_lease"),
        ..pb::PutRequest::default()
    };
    let value = line.maybe_word().unwrap_or_default();
    request.value = if size > 0 { vec![b'x'; size].into() } else { value.into() };
    line.finish()?;
    Ok(request)
}

/// Reads `delete KEY [end=] [prev_kv]`.
pub fn delete_request(mut line: Line) -> Outcome<pb::DeleteRangeRequest> {
    let request = pb::DeleteRangeRequest {
        key: line.word("key")?.into(),
        range_end: line.named("end").unwrap_or_default().into(),
        prev_kv: line.flag("prev_kv"),
    };
    line.finish()?;
    Ok(request)
}

/// Reads one operation of a transaction; `none` is an operation that says nothing.
pub fn operation(line: Line) -> Outcome<pb::RequestOp> {
    let request = match line.name.as_str() {
        "range" => Some(request_op::Request::RequestRange(range_request(line)?)),
        "put" => Some(request_op::Request::RequestPut(put_request(line)?)),
        "delete" => Some(request_op::Request::RequestDeleteRange(delete_request(line)?)),
        "none" => None,
        other => return Err(format!("a transaction has no operation {other}").into()),
    };
    Ok(pb::RequestOp { request })
}

/// Reads `compact REVISION [physical]`.
pub fn compact_request(mut line: Line) -> Outcome<pb::CompactionRequest> {
    let revision = line.number("revision")?;
    let physical = line.flag("physical");
    line.finish()?;
    Ok(pb::CompactionRequest { revision, physical })
}

impl Printer {
    pub fn range(&mut self, response: &pb::RangeResponse) -> String {
        let mut out = self.header(response.header.as_ref());
        print::number(&mut out, "count", response.count);
        print::flag(&mut out, "more", response.more);
        print::list(&mut out, &response.kvs, print::row);
        out
    }

    pub fn put(&mut self, response: &pb::PutResponse) -> String {
        let mut out = self.header(response.header.as_ref());
        if let Some(before) = &response.prev_kv {
            out.push_str(&format!(" before({})", print::row(before)));
        }
        out
    }

    pub fn delete(&mut self, response: &pb::DeleteRangeResponse) -> String {
        let mut out = self.header(response.header.as_ref());
        out.push_str(&format!(" deleted={}", response.deleted));
        print::list(&mut out, &response.prev_kvs, |row| format!("before({})", print::row(row)));
        out
    }

    pub fn txn(&mut self, response: &pb::TxnResponse) -> String {
        let mut out = self.header(response.header.as_ref());
        out.push_str(if response.succeeded { " succeeded" } else { " failed" });
        for operation in &response.responses {
            let (name, text) = match &operation.response {
                Some(response_op::Response::ResponseRange(range)) => ("range", self.range(range)),
                Some(response_op::Response::ResponsePut(put)) => ("put", self.put(put)),
                Some(response_op::Response::ResponseDeleteRange(delete)) => {
                    ("delete", self.delete(delete))
                }
                Some(response_op::Response::ResponseTxn(txn)) => ("txn", self.txn(txn)),
                None => ("an answer that says nothing", String::new()),
            };
            out.push_str(&format!("\n  {name} {}", print::indent(&text)));
        }
        out
    }
}
