//! Java archives from Maven Central, with all they depend on.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::jdk;
use crate::shell::program;
use crate::workshop::Workshop;

/// What copies an artifact and its dependencies into a folder.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies";

/// An artifact of the repository.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Artifact<'a> {
    /// Its group.
    pub(crate) group: &'a str,
    /// Its name.
    pub(crate) name: &'a str,
    /// Its version.
    pub(crate) version: &'a str,
    /// `jar`, or the ending of another file.
    pub(crate) ending: &'a str,
    /// Dependencies to leave out, as group and name; `*` is any.
    pub(crate) without: &'a [(&'a str, &'a str)],
}

/// Fetches artifacts and their run-time dependencies into a folder.
pub(crate) fn fetch(
    shop: &Workshop,
    repository: &Path,
    artifacts: &[Artifact<'_>],
    into: &Path,
) -> Result<()> {
    let project = shop.scratch.join("pom.xml");
    fs::write(&project, pom(artifacts)).with_context(|| format!("cannot write {}", project.display()))?;
    shop.run(
        program("mvn")
            .env("JAVA_HOME", jdk::at_least(17)?)
            .args(["--batch-mode", "--quiet", "--file"])
            .arg(&project)
            .arg(format!("-Dmaven.repo.local={}", repository.display()))
            .arg(COPY)
            .arg("-DincludeScope=runtime")
            .arg(format!("-DoutputDirectory={}", into.display())),
    )
}

fn pom(artifacts: &[Artifact<'_>]) -> String {
    let mut text = String::from(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n<modelVersion>4.0.0</modelVersion>\n\
         <groupId>test</groupId><artifactId>server</artifactId><version>1</version><packaging>pom</packaging>\n\
         <dependencies>\n",
    );
    for Artifact { group, name, version, ending, without } in artifacts {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version>\
             <type>{ending}</type><exclusions>{}</exclusions></dependency>",
            without.iter().map(|pair| exclusion(*pair)).collect::<String>()
        );
    }
    text.push_str("</dependencies>\n</project>\n");
    text
}

fn exclusion((group, name): (&str, &str)) -> String {
    format!("<exclusion><groupId>{group}</groupId><artifactId>{name}</artifactId></exclusion>")
}
