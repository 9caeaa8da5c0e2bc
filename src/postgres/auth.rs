//! [`Login`]: our side of the conversation in which the server makes sure who we are. Pure, but for SCRAM's nonce.

use std::io;

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::frontend;

use super::conninfo::ChannelBinding;
use super::error::Error;
use super::wire::Authentication;

/// Our side of an authentication.
pub(super) struct Login<'a> {
    pub(super) user: &'a str,
    pub(super) password: Option<&'a str>,
    pub(super) channel_binding: ChannelBinding,
    /// The `tls-server-end-point` of the TLS session, if there is one and it has one.
    pub(super) end_point: Option<Vec<u8>>,
    pub(super) progress: Progress,
}

/// The stage that it has reached.
#[derive(Default)]
pub(super) enum Progress {
    /// The server has not said how.
    #[default]
    Start,
    /// SCRAM is under way; whether it is bound to the TLS channel.
    Scram(ScramSha256, bool),
    /// SCRAM is over, and the server has proved that it knows the password as well.
    ScramDone(bool),
}

/// The next step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send these bytes.
    Send(BytesMut),
    /// Wait for the server's next message.
    Wait,
    /// It is over: we are in.
    Done,
}

impl Login<'_> {
    /// Answers the server's next demand.
    pub(super) fn answer(&mut self, demand: &Authentication<'_>) -> Result<Step, Error> {
        match demand {
            Authentication::Ok => self.finish(),
            Authentication::CleartextPassword => self.password_message(|password| password.to_owned()),
            Authentication::Md5Password { salt } => {
                let user = self.user;
                self.password_message(|password| md5_hash(user.as_bytes(), password.as_bytes(), *salt))
            }
            Authentication::Sasl { mechanisms } => self.start_scram(mechanisms),
            Authentication::SaslContinue(data) => self.continue_scram(data),
            Authentication::SaslFinal(data) => self.finish_scram(data),
            Authentication::Unsupported(method) => Err(Error::Auth(format!(
                "the server asks for {method}; use scram-sha-256, md5, password or a client certificate (pg_hba.conf)"
            ))),
        }
    }

    fn finish(&self) -> Result<Step, Error> {
        let bound = match &self.progress {
            Progress::Scram(..) => return Err(Error::Auth("the server cut SCRAM short".into())),
            Progress::ScramDone(bound) => *bound,
            Progress::Start => false,
        };
        if self.channel_binding == ChannelBinding::Require && !bound {
            return Err(Error::Auth(
                "channel_binding is required, but the server did without".into(),
            ));
        }
        Ok(Step::Done)
    }

    fn password(&self) -> Result<&str, Error> {
        self.password.ok_or_else(|| {
            Error::Auth(format!(
                "the server asks for the password of role {}: give it in the connection string, in PGPASSWORD or in \
                 ~/.pgpass (chmod 600)",
                self.user
            ))
        })
    }

    fn password_message(&self, prepare: impl FnOnce(&str) -> String) -> Result<Step, Error> {
        if self.channel_binding == ChannelBinding::Require {
            return Err(Error::Auth(
                "channel_binding is required, but the server asks for a plain password".into(),
            ));
        }
        let prepared = prepare(self.password()?);
        send(|message| frontend::password_message(prepared.as_bytes(), message))
    }

    fn start_scram(&mut self, mechanisms: &[&str]) -> Result<Step, Error> {
        let end_point = self
            .end_point
            .take()
            .filter(|_| self.channel_binding != ChannelBinding::Disable);
        let (mechanism, binding) = match end_point {
            Some(hash) if mechanisms.contains(&SCRAM_SHA_256_PLUS) => (
                SCRAM_SHA_256_PLUS,
                sasl::ChannelBinding::tls_server_end_point(hash),
            ),
            _ if self.channel_binding == ChannelBinding::Require => {
                let problem = "channel_binding is required, but it needs TLS and a server that offers it";
                return Err(Error::Auth(problem.into()));
            }
            // We say that we could have, so that nobody in between can take the offer out of the list unnoticed.
            Some(_) => (SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
            None => (SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
        };
        if !mechanisms.contains(&mechanism) {
            return Err(Error::Auth(format!(
                "the server offers {}, not {mechanism}",
                mechanisms.join(", ")
            )));
        }
        let scram = ScramSha256::new(self.password()?.as_bytes(), binding);
        let step = send(|message| frontend::sasl_initial_response(mechanism, scram.message(), message));
        self.progress = Progress::Scram(scram, mechanism == SCRAM_SHA_256_PLUS);
        step
    }

    fn continue_scram(&mut self, data: &[u8]) -> Result<Step, Error> {
        let Progress::Scram(scram, _) = &mut self.progress else {
            return Err(out_of_order());
        };
        scram.update(data).map_err(scram_error)?;
        send(|message| frontend::sasl_response(scram.message(), message))
    }

    fn finish_scram(&mut self, data: &[u8]) -> Result<Step, Error> {
        let Progress::Scram(scram, bound) = &mut self.progress else {
            return Err(out_of_order());
        };
        scram.finish(data).map_err(scram_error)?;
        self.progress = Progress::ScramDone(*bound);
        Ok(Step::Wait)
    }
}

fn send(build: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<Step, Error> {
    let mut message = BytesMut::new();
    build(&mut message).map_err(|e| Error::Auth(e.to_string()))?;
    Ok(Step::Send(message))
}

fn scram_error(error: io::Error) -> Error {
    Error::Auth(format!(
        "SCRAM failed, the server may not be who it says: {error}"
    ))
}

fn out_of_order() -> Error {
    Error::Auth("the server's SCRAM messages are out of order".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(channel_binding: ChannelBinding, end_point: Option<Vec<u8>>) -> Login<'static> {
        Login {
            user: "ann",
            password: Some("secret"),
            channel_binding,
            end_point,
            progress: Progress::Start,
        }
    }

    /// The mechanism and the start of what is sent for it.
    fn first_message(mut login: Login<'_>, mechanisms: &[&str]) -> Result<String, Error> {
        let mechanisms = mechanisms.to_vec();
        match login.answer(&Authentication::Sasl { mechanisms })? {
            Step::Send(message) => Ok(String::from_utf8_lossy(message.get(5..).unwrap()).into_owned()),
            step => panic!("{step:?}"),
        }
    }

    #[test]
    fn scram_is_bound_to_the_channel_where_both_sides_can() {
        let both = [SCRAM_SHA_256_PLUS, SCRAM_SHA_256];
        let hash = || Some(vec![1; 32]);
        let message = first_message(login(ChannelBinding::Prefer, hash()), &both).unwrap();
        assert!(message.starts_with("SCRAM-SHA-256-PLUS\0") && message.contains("p=tls-server-end-point,,"));
        let message = first_message(login(ChannelBinding::Prefer, hash()), &both[1..]).unwrap();
        assert!(message.starts_with("SCRAM-SHA-256\0") && message.contains("y,,n="));
        for login in [
            login(ChannelBinding::Disable, hash()),
            login(ChannelBinding::Prefer, None),
        ] {
            let message = first_message(login, &both).unwrap();
            assert!(message.starts_with("SCRAM-SHA-256\0") && message.contains("n,,n="));
        }
    }

    #[test]
    fn a_required_channel_binding_is_never_done_without() {
        let require = || login(ChannelBinding::Require, None);
        assert!(first_message(require(), &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256]).is_err());
        assert!(require().answer(&Authentication::Ok).is_err());
        assert!(require().answer(&Authentication::CleartextPassword).is_err());
        assert!(
            require()
                .answer(&Authentication::Md5Password { salt: [0; 4] })
                .is_err()
        );
    }

    #[test]
    fn a_server_that_cuts_scram_short_is_not_believed() {
        let mut login = login(ChannelBinding::Prefer, None);
        let mechanisms = vec![SCRAM_SHA_256];
        login.answer(&Authentication::Sasl { mechanisms }).unwrap();
        assert!(login.answer(&Authentication::Ok).is_err());
        assert!(login.answer(&Authentication::SaslFinal(b"v=AAAA")).is_err());
    }

    #[test]
    fn unknown_methods_and_missing_passwords_say_what_to_do() {
        let mut login = login(ChannelBinding::Prefer, None);
        login.password = None;
        let error = login.answer(&Authentication::CleartextPassword).unwrap_err();
        assert!(error.to_string().contains("PGPASSWORD"), "{error}");
        let error = login.answer(&Authentication::Unsupported("GSSAPI")).unwrap_err();
        assert!(error.to_string().contains("pg_hba.conf"), "{error}");
    }
}
