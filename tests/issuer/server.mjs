// An OpenID provider with Okta's claim names (cid, scp, groups, uid), for clients that are agents.
//
//   node server.mjs --host ADDRESS --port PORT --keys FILE --clients NAME,NAME…
//
// Prints {"issuer": …} when it listens. FILE gets its private keys, so that a scenario can make a
// token that is wrong in one way only. Each client's secret is its name followed by "-secret",
// unless it is given another proof: --auth NAME=post, NAME=RS256 or NAME=ES256 (private_key_jwt, with
// the key in DIRECTORY/NAME.pem and NAME.jwk of --client-keys DIRECTORY).
//
//   curl -su billing-bot:billing-bot-secret -d grant_type=client_credentials -d scope=orders URL/token
//
// Any client may also exchange a SAML assertion whose text is <Assertion>NAME</Assertion>.
//
// For tests of rotation, POST /test/rotate?alg=ALG withdraws all keys and signs with a new one
// (RS256, PS256, ES256, ES384, EdDSA); it answers with the new key's id.

import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { parseArgs } from "node:util";

import { exportJWK, exportPKCS8, generateKeyPair } from "jose";
import { errors, Provider } from "oidc-provider";

const SAML = "urn:ietf:params:oauth:grant-type:saml2-bearer";

const { values: options } = parseArgs({
  options: {
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "0" },
    keys: { type: "string" },
    clients: { type: "string", default: "billing-bot" },
    auth: { type: "string", default: "" },
    "client-keys": { type: "string", default: "." },
    audience: { type: "string", default: "api://hoop" },
    lifetime: { type: "string", default: "86400" },
  },
});

let keys = await Promise.all([makeKey("RS256", "rsa-1"), makeKey("ES256", "ec-1")]);
writeKeys();
const auth = Object.fromEntries(
  options.auth
    .split(",")
    .filter(Boolean)
    .map((one) => one.split("=")),
);
const clients = await Promise.all(options.clients.split(",").map(client));

// The address is part of the issuer's name, and the port is known only once it listens.
const server = createServer();
await new Promise((resolve) => server.listen(Number(options.port), options.host, resolve));
const issuer = `http://${options.host}:${server.address().port}`;
let answer = provider(issuer).callback();
let rotations = 0;
server.on("request", (request, response) => {
  const url = new URL(request.url, issuer);
  if (request.method === "POST" && url.pathname === "/test/rotate") {
    rotate(url.searchParams.get("alg") ?? "RS256").then((kid) => response.end(kid));
  } else {
    answer(request, response);
  }
});
console.log(JSON.stringify({ issuer }));

async function rotate(alg) {
  rotations += 1;
  keys = [await makeKey(alg, `rotated-${rotations}`)];
  writeKeys();
  answer = provider(issuer).callback();
  return keys[0].kid;
}

function writeKeys() {
  if (options.keys) {
    writeFileSync(options.keys, JSON.stringify({ keys }), { mode: 0o600 });
  }
}

async function makeKey(alg, kid) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), alg, kid, use: "sig" };
}

function provider(issuer) {
  const made = new Provider(issuer, {
    clients,
    jwks: { keys },
    clientDefaults: { id_token_signed_response_alg: keys[0].alg },
    enabledJWA: { idTokenSigningAlgValues: [...new Set(keys.map((key) => key.alg))] },
    scopes: ["orders"],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => options.audience,
        useGrantedResource: () => true,
        getResourceServerInfo: resource,
      },
    },
    extraTokenClaims: (_context, token) => ({
      cid: token.clientId,
      uid: token.clientId,
      scp: (token.scope ?? "").split(" ").filter(Boolean),
      groups: ["agents"],
    }),
  });
  made.registerGrantType(SAML, exchange, ["assertion", "scope"]);
  return made;
}

function resource() {
  return {
    scope: "orders",
    audience: options.audience,
    accessTokenTTL: Number(options.lifetime),
    accessTokenFormat: "jwt",
    jwt: { sign: { alg: keys[0].alg } },
  };
}

async function exchange(context, next) {
  const { client, params, provider } = context.oidc;
  const assertion = Buffer.from(params.assertion ?? "", "base64url").toString();
  if (assertion !== `<Assertion>${client.clientId}</Assertion>`) {
    throw new errors.InvalidGrant("this assertion is not the client's");
  }
  const token = new provider.ClientCredentials({ client, scope: params.scope });
  token.resourceServer = new provider.ResourceServer(options.audience, resource());
  const access_token = await token.save();
  context.body = { access_token, expires_in: token.expiration, token_type: token.tokenType };
  await next();
}

async function client(name) {
  const usual = {
    client_id: name,
    grant_types: ["client_credentials", SAML],
    response_types: [],
    redirect_uris: [],
  };
  const how = auth[name] ?? "basic";
  if (how === "basic" || how === "post") {
    const secret = { client_secret: `${name}-secret` };
    return { ...usual, ...secret, token_endpoint_auth_method: `client_secret_${how}` };
  }
  return {
    ...usual,
    token_endpoint_auth_method: "private_key_jwt",
    token_endpoint_auth_signing_alg: how,
    jwks: { keys: [await clientKey(name, how)] },
  };
}

// Writes a client's private key in both forms and returns the public one.
async function clientKey(name, alg) {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  const folder = options["client-keys"];
  const named = { alg, kid: `${name}-key`, use: "sig" };
  const jwk = { ...(await exportJWK(privateKey)), ...named };
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}/${name}.jwk`, JSON.stringify(jwk), { mode: 0o600 });
  writeFileSync(`${folder}/${name}.pem`, await exportPKCS8(privateKey), { mode: 0o600 });
  return { ...(await exportJWK(publicKey)), ...named };
}
