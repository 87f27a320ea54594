//! Hashes, and HMAC of them.

use hmac::{Hmac, Mac as _};
use rquickjs::prelude::Func;
use rquickjs::{Ctx, Exception, Object, Result, TypedArray};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::{given, taken};

pub(super) fn install(native: &Object<'_>) -> Result<()> {
    native.set("digest", Func::from(digest))?;
    native.set("hmac", Func::from(hmac))
}

fn digest<'js>(
    ctx: Ctx<'js>,
    name: String,
    bytes: TypedArray<'js, u8>,
) -> Result<TypedArray<'js, u8>> {
    let bytes = taken(&ctx, &bytes)?;
    let digest = match name.as_str() {
        "SHA-1" => Sha1::digest(bytes).to_vec(),
        "SHA-256" => Sha256::digest(bytes).to_vec(),
        "SHA-384" => Sha384::digest(bytes).to_vec(),
        "SHA-512" => Sha512::digest(bytes).to_vec(),
        other => return Err(Exception::throw_type(&ctx, &format!("no such hash: {other}"))),
    };
    given(&ctx, digest)
}

fn hmac<'js>(
    ctx: Ctx<'js>,
    name: String,
    key: TypedArray<'js, u8>,
    bytes: TypedArray<'js, u8>,
) -> Result<TypedArray<'js, u8>> {
    let (key, bytes) = (taken(&ctx, &key)?, taken(&ctx, &bytes)?);
    macro_rules! mac {
        ($hash:ty) => {{
            // A key of any length is taken.
            let mac = Hmac::<$hash>::new_from_slice(&key);
            let mac = mac.map_err(|why| Exception::throw_type(&ctx, &why.to_string()))?;
            mac.chain_update(bytes).finalize().into_bytes().to_vec()
        }};
    }
    let mac = match name.as_str() {
        "SHA-1" => mac!(Sha1),
        "SHA-256" => mac!(Sha256),
        "SHA-384" => mac!(Sha384),
        "SHA-512" => mac!(Sha512),
        other => return Err(Exception::throw_type(&ctx, &format!("no such hash: {other}"))),
    };
    given(&ctx, mac)
}
