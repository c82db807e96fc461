//! A client of a TLS port that can be told every choice it makes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kvorum::pb::kv_client::KvClient;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::pki::Identity;

/// The longest any answer may take. Tests that fail wait for it; others do not.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct Client {
    /// PEM of the CA that the server's certificate must come from.
    pub ca: String,
    pub identity: Option<Identity>,
    pub versions: Vec<&'static SupportedProtocolVersion>,
    pub protocols: Vec<&'static str>,
}

impl Client {
    pub fn trusting(ca: &str) -> Self {
        let versions = vec![&TLS13, &TLS12];
        Self { ca: ca.to_owned(), identity: None, versions, protocols: vec!["h2", "http/1.1"] }
    }

    pub fn with(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    pub fn speaking(mut self, protocols: &[&'static str]) -> Self {
        self.protocols = protocols.to_vec();
        self
    }

    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca) {
            roots.add(certificate).expect("a certificate");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a key");
                let chain = certificates(&identity.cert);
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        config.alpn_protocols =
            self.protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }

    /// A connection after its handshake. With TLS 1.3 the server may still refuse.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        self.connect_over(TcpStream::connect(address).await?).await
    }

    /// The same over a stream that is there.
    pub async fn connect_over<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let name = ServerName::try_from("localhost").expect("a name");
        self.connector().connect(name, stream).await
    }

    /// What connects and remembers sessions, if the server lets it.
    pub fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::new(self.config()))
    }

    /// Asks for a path by HTTP/1.1; the whole answer.
    pub async fn get(&self, address: SocketAddr, path: &str) -> io::Result<String> {
        within(async {
            let mut stream = self.connect(address).await?;
            ask(&mut stream, path).await
        })
        .await
    }

    /// Asks for a path by HTTP/2; the body.
    pub async fn get_h2(&self, address: SocketAddr, path: &str) -> io::Result<String> {
        within(async {
            let stream = TokioIo::new(self.connect(address).await?);
            let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await;
            let (mut requests, connection) = shaken.map_err(io::Error::other)?;
            let connection = tokio::spawn(connection);
            let request = http::Request::get(format!("https://{address}{path}"))
                .body(Empty::<bytes::Bytes>::new())
                .expect("a request");
            let answer = requests.send_request(request).await.map_err(io::Error::other)?;
            let body = answer.into_body().collect().await.map_err(io::Error::other)?;
            connection.abort();
            Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
        })
        .await
    }

    /// A gRPC client on one connection.
    pub async fn kv(&self, address: SocketAddr) -> Result<KvClient<Channel>, tonic::Status> {
        let client = self.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let client = client.clone();
            async move { client.connect(address).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://member").timeout(PATIENCE);
        let channel = endpoint.connect_with_connector(connector).await;
        Ok(KvClient::new(channel.map_err(|error| tonic::Status::unavailable(error.to_string()))?))
    }
}

/// Sends a request of HTTP/1.1 and reads to the end of the connection.
pub async fn ask<S>(stream: &mut S, path: &str) -> io::Result<String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let request = format!("GET {path} HTTP/1.1\r\nhost: member\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The result of something that must not take for ever.
pub async fn within<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, what).await.expect("an answer in time")
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(|found| found.expect("PEM")).collect()
}
