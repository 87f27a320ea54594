//! `mayfly deploy` without a path: what is deployed, and how, is in the directory's `function.toml`.

use std::path::Path;

use mayfly_runtime::dev::manifest::FILE;

use super::super::build::{build, open};
use super::super::{Failure, code, script};
use super::{Deploy, Reset};

impl Deploy {
    /// What a directory holds: a function by its file, or a script.
    ///
    /// # Errors
    /// What was looked for.
    pub(super) fn read_directory(&mut self, dir: &Path) -> Result<(), Failure> {
        if dir.join(FILE).is_file() {
            return self.read_project(dir);
        }
        let entry = script::entry_of(dir).ok_or_else(|| {
            let why = format!(
                "{} has no {FILE}, and no script: index.js, main.ts, app.js or their like, there or in src",
                dir.display()
            );
            Failure::new(code::USAGE, why)
        })?;
        if self.name.is_none() {
            // "." has a name as well, but not in itself.
            let own =
                std::path::absolute(dir).ok().and_then(|dir| Some(dir.file_name()?.to_owned()));
            let own = own.map(|name| {
                name.to_string_lossy().to_ascii_lowercase().replace(['_', '.', ' '], "-")
            });
            self.name = own;
        }
        self.path = Some(entry);
        Ok(())
    }

    /// Builds the directory's function and takes over what its file says. What was said as a flag is added to it; what kinds
    /// of settings the file names are as it says, and not kept from the revision before.
    ///
    /// # Errors
    /// Why there is nothing to deploy, and what to do.
    pub(super) fn read_project(&mut self, dir: &Path) -> Result<(), Failure> {
        let project = open(dir).map_err(|mut failure| {
            if failure.code == code::USAGE {
                failure.text +=
                    "\nhint: or name what to deploy, as in `mayfly deploy path/to/module.wasm`";
            }
            failure
        })?;
        let done = if self.no_build { project.built() } else { Ok(build(&project)?) };
        // It is read again below, as any other.
        drop(done.map_err(|why| Failure::new(code::FAILED, why))?);
        let arguments = project.manifest.deploy.arguments(&project.dir);
        let arguments = arguments.map_err(|why| Failure::new(code::FAILED, why))?;
        let deploy = &project.manifest.deploy;
        self.path = Some(dir.join(&project.manifest.build.output));
        if self.name.is_none() {
            self.name = Some(project.manifest.name.to_string());
        }
        self.model.fill(&project.manifest.model, dir);
        if deploy.limits.is_some() {
            self.reset.push(Reset::Limits);
        }
        if let Some(env) = &deploy.env {
            self.reset.push(Reset::Env);
            let pairs = env.iter().map(|(name, value)| format!("{name}={value}"));
            self.env.splice(0..0, pairs);
        }
        if let Some(secrets) = &deploy.secrets {
            self.reset.push(Reset::Secrets);
            self.secret.extend(secrets.iter().cloned());
        }
        // Flags come behind, and the last word on a key stands.
        self.limit.splice(0..0, deploy.limits());
        if let Some(routes) = &deploy.routes {
            self.reset.push(Reset::Routes);
            self.route.extend(routes.iter().cloned());
        }
        if deploy.args.is_some() {
            self.reset.push(Reset::Args);
            self.arg.splice(0..0, arguments);
        }
        if deploy.outbound.is_some() || deploy.outbound_headers.is_some() {
            self.reset.push(Reset::Outbound);
            self.outbound.extend(deploy.outbound.iter().flatten().cloned());
            let headers = deploy.outbound_headers.iter().flatten();
            let headers = headers.flat_map(|header| [header.origin.clone(), header.header.clone()]);
            self.outbound_header.extend(headers);
        }
        self.stream_body = self.stream_body.or(deploy.stream_body);
        self.pass_authorization = self.pass_authorization.or(deploy.pass_authorization);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::super::{Cli, Verb};

    #[test]
    fn the_file_says_all_and_flags_add_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let text = "name = \"api\"\n[build]\noutput = \"out.wasm\"\n[deploy]\nroutes = [\"/api/...\"]\n\
                    limits = { memory = \"64MiB\" }\nenv = { A = \"1\" }\n";
        std::fs::write(dir.path().join("function.toml"), text).unwrap();
        let module = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
        std::fs::write(dir.path().join("out.wasm"), wat::parse_str(module).unwrap()).unwrap();
        let line = ["mayfly", "deploy", "--no-build", "-e", "B=2"];
        let Ok(Verb::Deploy(mut deploy)) = Cli::try_parse_from(line).map(|cli| cli.verb) else {
            panic!("no deploy");
        };
        deploy.read_project(dir.path()).unwrap();
        assert_eq!(deploy.path(), dir.path().join("out.wasm"));
        assert_eq!(
            deploy.planned().unwrap(),
            "/v1/functions/api?keep=all&reset=limits&reset=env&reset=routes&env=A%3D1&env=B%3D2\
             &limit=memory%3D64MiB&route=%2Fapi%2F%2E%2E%2E"
        );
        std::fs::remove_file(dir.path().join("out.wasm")).unwrap();
        let why = deploy.read_project(dir.path()).unwrap_err();
        assert!(why.text.contains("there is no "), "{}", why.text);
        let why = deploy.read_project(&dir.path().join("nowhere")).unwrap_err();
        assert!(why.text.contains("mayfly deploy path/to/module.wasm"), "{}", why.text);
    }
}
