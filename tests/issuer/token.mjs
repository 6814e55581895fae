// Prints an access token, by client credentials or made by hand so that it is wrong in one way.
//
//   node token.mjs --issuer URL --client NAME
//   node token.mjs --issuer URL --client NAME --keys FILE [--claims JSON] [--forge own-key|none|hs256]
//
// With --keys the token is signed here: by the issuer's own key unless --forge says otherwise.

import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { SignJWT, exportSPKI, generateKeyPair, importJWK } from "jose";

const { values: options } = parseArgs({
  options: {
    issuer: { type: "string" },
    client: { type: "string" },
    keys: { type: "string" },
    claims: { type: "string", default: "{}" },
    forge: { type: "string" },
  },
});

console.log(options.keys ? await made() : await granted());

async function granted() {
  const secret = Buffer.from(`${options.client}:${options.client}-secret`).toString("base64");
  const response = await fetch(`${options.issuer}/token`, {
    method: "POST",
    headers: { authorization: `Basic ${secret}` },
    body: new URLSearchParams({ grant_type: "client_credentials", scope: "orders" }),
  });
  const answer = await response.json();
  if (!answer.access_token) {
    throw new Error(`no token: ${JSON.stringify(answer)}`);
  }
  return answer.access_token;
}

async function made() {
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: options.issuer,
    aud: "api://hoop",
    sub: options.client,
    client_id: options.client,
    cid: options.client,
    scp: ["orders"],
    groups: ["agents"],
    iat: now,
    nbf: now,
    exp: now + 3600,
    ...JSON.parse(options.claims),
  };
  const jwk = JSON.parse(readFileSync(options.keys)).keys[0];
  const header = { alg: "RS256", kid: jwk.kid, typ: "at+jwt" };
  if (options.forge === "none") {
    return `${part({ ...header, alg: "none" })}.${part(claims)}.`;
  }
  if (options.forge === "hs256") {
    // The public key taken for a shared secret: the classic confusion of algorithms.
    const { d, p, q, dp, dq, qi, ...open } = jwk;
    const secret = await exportSPKI(await importJWK(open, "RS256"));
    const signed = `${part({ ...header, alg: "HS256" })}.${part(claims)}`;
    return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
  }
  const own = options.forge === "own-key";
  const key = own ? (await generateKeyPair("RS256")).privateKey : await importJWK(jwk, "RS256");
  return new SignJWT(claims).setProtectedHeader(header).sign(key);
}

function part(value) {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
