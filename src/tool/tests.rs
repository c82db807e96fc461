//! Tools against the output of etcd's own, recorded.
