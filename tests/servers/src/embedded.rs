//! Elasticsearch and OpenSearch inside a Java process of ours: small, quick to start, without security.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::http::Request;
use crate::jdk;
use crate::kind::{Access, Kind, Place, access};
use crate::maven::{Artifact, fetch};
use crate::shell::program;
use crate::workshop::Workshop;

/// What is logged, to standard output.
const LOGGING: &str = "status = error\nappender.c.type = Console\nappender.c.name = c\n\
    appender.c.layout.type = PatternLayout\nappender.c.layout.pattern = [%d{ISO8601}][%p][%c{1}] %m%n\n\
    rootLogger.level = info\nrootLogger.appenderRef.c.ref = c\n";

/// Jars that belong to the module x-pack-core rather than to the server.
const XPACK: &[&str] = &[
    "x-pack-",
    "http",
    "commons-",
    "unboundid",
    "icu4j",
    "elasticsearch-ssl-config",
    "slf4j",
    "log4j-slf4j",
    "log4j-1.2",
];

/// One of the two, in one version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Embedded {
    name: &'static str,
    release: &'static str,
    version: &'static str,
    purpose: &'static str,
    product: Product,
    java: u32,
}

#[derive(Clone, Copy, Debug)]
enum Product {
    Elasticsearch,
    OpenSearch,
}

impl Embedded {
    /// Elasticsearch 8.
    pub(crate) const ELASTICSEARCH_8: Self = Self {
        name: "elasticsearch-small-8",
        release: "elasticsearch-small-8.19.21",
        version: "8.19.21",
        purpose: "quick tests of bulk, data streams, rollover; no security, no GET /",
        product: Product::Elasticsearch,
        java: 17,
    };

    /// Elasticsearch 9.
    pub(crate) const ELASTICSEARCH_9: Self = Self {
        name: "elasticsearch-small-9",
        release: "elasticsearch-small-9.5.3",
        version: "9.5.3",
        java: 21,
        ..Self::ELASTICSEARCH_8
    };

    /// OpenSearch 2.
    pub(crate) const OPENSEARCH_2: Self = Self {
        name: "opensearch-2",
        release: "opensearch-2.19.6",
        version: "2.19.6",
        purpose: "the other dialect, with the data-stream interface",
        product: Product::OpenSearch,
        java: 17,
    };

    /// OpenSearch 3.
    pub(crate) const OPENSEARCH_3: Self = Self {
        name: "opensearch-3",
        release: "opensearch-3.8.0",
        version: "3.8.0",
        java: 21,
        ..Self::OPENSEARCH_2
    };

    fn artifact(self, group: &'static str, name: &'static str) -> Artifact<'static> {
        Artifact { group, name, version: self.version, ending: "jar", without: &[] }
    }

    fn artifacts(self) -> Vec<Artifact<'static>> {
        match self.product {
            Product::Elasticsearch => {
                let plugins = "org.elasticsearch.plugin";
                let without: &[_] = &[("org.elasticsearch.plugin", "x-pack-template-resources")];
                vec![
                    self.artifact("org.elasticsearch", "elasticsearch"),
                    self.artifact(plugins, "transport-netty4"),
                    Artifact { without, ..self.artifact(plugins, "x-pack-core") },
                ]
            }
            Product::OpenSearch => {
                let plugins = "org.opensearch.plugin";
                let logging = self.artifact("org.apache.logging.log4j", "log4j-core");
                vec![
                    self.artifact("org.opensearch", "opensearch"),
                    self.artifact(plugins, "transport-netty4-client"),
                    self.artifact(plugins, "reindex-client"),
                    self.artifact(plugins, "mapper-extras-client"),
                    Artifact { version: "2.25.4", ..logging },
                ]
            }
        }
    }

    const fn launcher(self) -> &'static str {
        match self.product {
            Product::Elasticsearch => include_str!("java/ElasticsearchNode.java"),
            Product::OpenSearch => include_str!("java/OpenSearchNode.java"),
        }
    }

    const fn class(self) -> &'static str {
        match self.product {
            Product::Elasticsearch => "ElasticsearchNode",
            Product::OpenSearch => "OpenSearchNode",
        }
    }
}

impl Kind for Embedded {
    fn name(&self) -> &'static str {
        self.name
    }

    fn release(&self) -> &'static str {
        self.release
    }

    fn purpose(&self) -> &'static str {
        self.purpose
    }

    fn build(&self, shop: &Workshop) -> Result<()> {
        let java = jdk::at_least(self.java)?;
        let library = shop.folder("lib")?;
        fetch(shop, &shop.shared.join("maven"), &self.artifacts(), &library)?;
        if matches!(self.product, Product::Elasticsearch) {
            sort_modules(shop, &library)?;
        }
        let classes = shop.folder("classes")?;
        fs::write(classes.join("log4j2.properties"), LOGGING)?;
        let source = shop.scratch.join(format!("{}.java", self.class()));
        fs::write(&source, self.launcher())?;
        let mut compiler = jdk::tool(&java, "javac");
        compiler.args(["-nowarn", "-cp"]).arg(library.join("*")).arg("-d").arg(classes).arg(source);
        shop.run(&mut compiler)
    }

    /// HTTP and transport.
    fn ports(&self) -> u16 {
        2
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let installed = place.installed.display();
        let mut command = jdk::tool(&jdk::at_least(self.java)?, "java");
        command.args(["-Xms384m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.args(["-Djava.awt.headless=true", "-Dlog4j2.disable.jmx=true", "-Djna.nosys=true"]);
        command.args(["-cp", &format!("{installed}/classes:{installed}/lib/*"), self.class()]);
        command.arg(place.installed.join("modules")).arg(&place.home);
        command.args([place.port.to_string(), place.port.saturating_add(1).to_string()]);
        command.args(&place.settings);
        Ok(command)
    }

    fn is_ready(&self, place: &Place) -> bool {
        let health = Request::new("GET", "/_cluster/health").within(Duration::from_secs(5));
        health.send(place.address(0)).is_ok_and(|answer| answer.is_success())
    }

    fn starts_within(&self) -> Duration {
        Duration::from_secs(180)
    }

    fn prepare(&self, place: &Place) -> Result<Access> {
        Ok(access([("url", place.url(0))]))
    }
}

/// Elasticsearch loads its modules from folders with a description each, which their jars hold.
fn sort_modules(shop: &Workshop, library: &Path) -> Result<()> {
    let netty = shop.folder("modules/transport-netty4")?;
    let xpack = shop.folder("modules/x-pack-core")?;
    for entry in fs::read_dir(library)? {
        let (jar, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let starts = |prefix: &&str| name.to_string_lossy().starts_with(*prefix);
        let module = if ["transport-netty4-", "netty-"].iter().any(starts) {
            &netty
        } else if XPACK.iter().any(starts) {
            &xpack
        } else {
            continue;
        };
        fs::rename(jar, module.join(&name))?;
    }
    describe(shop, &netty, "transport-netty4")?;
    describe(shop, &xpack, "x-pack-core")
}

fn describe(shop: &Workshop, folder: &Path, module: &str) -> Result<()> {
    let own = |name: &str| name.starts_with(module) && name.ends_with(".jar");
    let mut jars = fs::read_dir(folder)?.flatten().filter(|entry| own(&entry.file_name().to_string_lossy()));
    let jar = jars.next().with_context(|| format!("there is no jar of {module}"))?.path();
    let inside = format!("META-INF/es-plugins/{module}/plugin-descriptor.properties");
    let text = shop.output(program("unzip").arg("-p").arg(jar).arg(inside))?;
    // The server is on the class path here, where Java knows no modules.
    let lines = text.lines().filter(|line| !line.starts_with("modulename="));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    fs::write(folder.join("plugin-descriptor.properties"), text)?;
    Ok(())
}
