"""The shapes of over two hundred tokens, as their vendors document or show them. Values are drawn from them at run time.

`{36}` is 36 letters or digits, a letter behind the number names another alphabet (`_ALPHABETS`), and `{U}` is a UUID.
"""

from __future__ import annotations

import re
import uuid
from random import Random
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits
from typing import NamedTuple

from shared.redaction.sensitive import Sensitive

_ALPHABETS = {
    "": ascii_letters + digits,
    "a": ascii_letters,
    "h": "0123456789abcdef",
    "H": "0123456789ABCDEF",
    "u": ascii_letters + digits + "-_",
    "A": ascii_uppercase + digits,
    "l": ascii_lowercase + digits,
    "d": digits,
    "b": ascii_letters + digits + "+/",
    "B": ascii_uppercase + "234567",
    "q": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
}
_PART = re.compile(r"\{(\d+)([a-zA-Z]?)\}|\{U\}")


class Shape(NamedTuple):
    """One shape: what issues it, the class that it is found as, and the name in front of it where the value alone says nothing."""

    service: str
    sensitive: Sensitive
    template: str
    name: str = ""

    def draw(self, random: Random) -> str:
        """A value of this shape that nobody ever issued."""
        return _PART.sub(lambda part: _drawn(random, part), self.template)


def _drawn(random: Random, part: re.Match[str]) -> str:
    if part[1] is None:
        return str(uuid.UUID(bytes=random.randbytes(16)))
    alphabet, length = _ALPHABETS[part[2]], int(part[1])
    drawn = random.choices(alphabet, k=length)
    if length >= 12:  # a draw without a digit, or one that ends in a sign, is no fair sample
        drawn[length // 2] = random.choice([sign for sign in alphabet if sign.isdigit()] or alphabet)
        drawn[-1] = random.choice([sign for sign in alphabet if sign.isalnum()])
    return "".join(drawn)


_SERVICES = """
1password A3-{6A}-{11A}-{5A}-{5A}-{5A}
1password-service ops_eyJ{260b}
adobe p8e-{32l}
age AGE-SECRET-KEY-1{58q}
airtable pat{14}.{64h}
alibaba LTAI{20}
apify apify_api_{36}
artifactory AKCp{69}
artifactory-reference cmVmd{59}
atlassian ATATT3{186u}
atlassian-bitbucket ATBB{32}
atlassian-connect ATCTT3{120u}
authress sc_{12l}.{5l}.acc-{12l}.{40l}
azure-ad {3}8Q~{34}
azure-devops {76}AZDO{4}
azure-functions {44u}AzFu{6u}==
azure-cosmos {44u}ACDb{6u}==
azure-storage-bare {76b}+ASt{5b}w==
baidu ALTAK{21}
bedrock ABSK{120b}
braintree access_token$production${16l}${32h}
brave BSA{27}
brevo xkeysib-{64h}-{16}
brevo-smtp xsmtpsib-{64h}-{16}
browserbase bb_live_{27u}
buildkite bkua_{40h}
cal cal_live_{32h}
cerebras csk-{48l}
cerebras-mixed csk-{48}
kimi sk-kimi-{64}
minimax sk-cp-{64u}
alibaba-workspace sk-ws-01-{64u}
google-gemini AQ.Ab8RN6{44u}
chromatic chpt_{15h}
circleci CCIPAT_{22}_{40h}
clickhouse 4b1d{38}
clickup pk_{8d}_{32A}
clojars CLOJARS_{60l}
cloudflare-origin v1.0-{24h}-{146h}
contentful CFPAT-{43u}
crates cio{32}
databricks dapi{32h}
databricks-2 dapi{32h}-2
defined dnkey-{26u}-{52u}
deno ddp_{36}
deno-org ddo_{36}
digitalocean dop_v1_{64h}
digitalocean-oauth doo_v1_{64h}
digitalocean-refresh dor_v1_{64h}
digitalocean-spaces DO00{16A}
docker dckr_pat_{27}
docker-organisation dckr_oat_{32}
doppler dp.pt.{43}
doppler-service dp.st.dev.{43}
doppler-scim dp.scim.{43}
dropbox sl.{135u}
duffel duffel_live_{43u}
dynatrace dt0c01.{24A}.{64A}
e2b e2b_{40h}
easypost EZAK{54}
easypost-test EZTK{54}
elevenlabs sk_{48h}
facebook {15d}|{30u}
facebook-page EAAC{120}
fcm AAAA{7}:{140u}
figma figd_{40u}
firecrawl fc-{32h}
fireworks fw_{24}
flutterwave FLWSECK-{32l}-X
fly fo1_{43u}
fly-macaroon fm2_{140b}
frameio fio-u-{64u}
google-refresh 1//0{43u}
grafana glsa_{32}_{8h}
grafana-cloud glc_{60b}
groq gsk_{52}
harness pat.{22}.{24}.{20}
heroku HRKU-AA{58u}
honeycomb hcaik_{58l}
hubspot pat-na1-{U}
huggingface-organization api_org_{34a}
infracost ico-{32}
instagram IGQ{120u}
intra42 s-s4t2ud-{64h}
jina jina_{60}
langfuse sk-lf-{U}
langsmith lsv2_pt_{32h}_{10h}
langsmith-service lsv2_sk_{32h}_{10h}
langsmith-old ls__{32h}
linear lin_api_{40}
linear-oauth lin_oauth_{64h}
llamacloud llx-{48}
logfire pylf_v1_us_{43}
mailchimp {32h}-us14
mailersend mlsn.{64h}
mailgun key-{32h}
mapbox sk.eyJ1{60}.{22}
maxmind {6}_{29}_mmk
mem0 m0-{40}
mercadopago APP_USR-{16d}-{6d}-{32h}-{9d}
modal ak-{22}
modal-secret as-{22}
mongodb-atlas mdb_sa_sk_{40u}
nats SU{56B}
nats-account SA{56B}
neon napi_{64l}
netlify nfp_{36}
newrelic NRAK-{27A}
newrelic-insert NRII-{32}
newrelic-browser NRJS-{19h}
notion ntn_{46}
notion-old secret_{43}
nuget oy2{43l}
nvidia nvapi-{64u}
octopus API-{26A}
onfido api_live.{11u}.{32u}
openshift sha256~{43u}
opik opik_{40}
perplexity pplx-{48}
pinecone pcsk_{6}_{62}
plaid access-production-{U}
planetscale pscale_tkn_{43u}
planetscale-password pscale_pw_{43u}
planetscale-oauth pscale_oauth_{43u}
posthog phx_{43}
postman PMAK-{24h}-{34h}
prefect pnu_{36}
prefect-service pnb_{36}
pulumi pul-{40h}
razorpay rzp_live_{14}
readme rdme_{70l}
render rnd_{28}
replicate r8_{37}
resend re_{8}_{24}
rubygems rubygems_{48h}
runpod rpa_{44A}
runpod-mixed rpa_{46}
scaleway SCW{17A}
scalingo tk-us-{48u}
sentry sntryu_{64h}
settlemint sm_pat_{16}
settlemint-service sm_sat_{16}
shippo shippo_live_{40h}
shopify shpat_{32h}
shopify-custom shpca_{32h}
shopify-private shppa_{32h}
shopify-shared shpss_{32h}
sonarqube sqp_{40h}
sonarqube-user squ_{40h}
sourcegraph sgp_{40h}
sourcegraph-local sgp_local_{40h}
square sq0atp-{22u}
square-secret sq0csp-{43u}
square-new EAAA{60}
stytch secret-live-{36u}=
supabase sbp_{40h}
supabase-secret sb_secret_{31}
tailscale tskey-auth-{17}-{32}
tailscale-api tskey-api-{12}CNTRL-{32}
tavily tvly-{32}
tavily-dev tvly-dev-{32}
tencent AKID{32}
terraform {14}.atlasv1.{67u}
together tgp_v1_{43u}
trello ATTA{64h}
twitter-bearer AAAAAAAAAAAAAAAAAAAAA{12}%2B{60}
typeform tfp_{59u}
vault hvs.{95u}
vault-short hvs.{24}
vault-batch hvb.{150u}
vercel-blob vercel_blob_rw_{16}_{32}
voyage pa-{43u}
wandb wandb_v1_{77}
xai xai-{80}
yandex AQVN{36u}
alchemy https://eth-mainnet.g.alchemy.com/v2/{32}
asana 1/{16d}:{32h}
aws-session IQoJb3JpZ2lu{400b}
docker-swarm SWMTKN-1-{50l}-{25l}
dynatrace-platform dt0s16.{24A}.{64A}
facebook-graph EAAG{160}
ghost {24h}:{64h}
github-installation v1.{40h}
grafana-old eyJrIjoi{90}
infura https://mainnet.infura.io/v3/{32h}
k3s K10{64h}::server:{32h}
launchdarkly sdk-{U}
matrix syt_{12}_{20}_{6}
ngrok 2{26}_{21}
okta SSWS 00{40u}
openai-session sess-{40}
pagerduty pdus+_{28u}
upstage up_{29}
vercel vcp_{56}
woocommerce ck_{40h}
woocommerce-secret cs_{40h}
zapier https://hooks.zapier.com/hooks/catch/{7d}/{7l}
"""
_CLASSED = {
    Sensitive.ANTHROPIC_KEY: "sk-ant-api03-{93u}AA sk-ant-admin01-{93u}AA sk-ant-oat01-{86u}",
    Sensitive.OPENAI_KEY: "sk-{20}T3BlbkFJ{20} sk-proj-{74u}T3BlbkFJ{74u} sk-svcacct-{74u}T3BlbkFJ{74u} sk-admin-{58u}T3BlbkFJ{58u} "
    "sk-or-v1-{64h} sk-{48} sk-{32h}",
    Sensitive.GITHUB_TOKEN: "ghp_{36} gho_{36} ghu_{36} ghs_{36} ghr_{36} github_pat_{22}_{59}",
    Sensitive.GITLAB_TOKEN: "glpat-{20u} gldt-{20u} glrt-{20u} glft-{20u} glsoat-{20u} glcbt-64_{20u} glimt-{25u} glptt-{40h} "
    "glagent-{50u} "
    "gloas-{64u} glffct-{20u} glpat-{27u}.01.{9l} GR1348941{20}",
    Sensitive.SLACK: "xoxb-{12d}-{13d}-{24} xoxp-{12d}-{12d}-{13d}-{32h} xapp-1-A{10A}-{13d}-{64h} xoxe-1-{146A} "
    "https://hooks.slack.com/services/T{10A}/B{10A}/{24}",
    Sensitive.STRIPE_KEY: "sk_live_{24} sk_test_{99} rk_live_{24} rk_test_{99} whsec_{32}",
    Sensitive.GOOGLE_KEY: "AIza{35} GOCSPX-{28} ya29.{120u}",
    Sensitive.HUGGING_FACE_TOKEN: "hf_{34a}",
    Sensitive.NPM_TOKEN: "npm_{36}",
    Sensitive.PYPI_TOKEN: "pypi-AgEIcHlwaS5vcmc{150u}",
    Sensitive.SENDGRID_KEY: "SG.{22u}.{43u}",
    Sensitive.TWILIO_KEY: "SK{32h} AC{32h}",
    Sensitive.TELEGRAM_TOKEN: "{10d}:AA{33u}",
    Sensitive.AWS_ACCESS_KEY_ID: "AKIA{16B} ASIA{16B}",
}  # fmt: skip
#: Name and value, as an environment or a file of settings holds them.
_NAMED = """
ADAFRUIT {32h}
AIRTABLE {17}
ALGOLIA {32h}
ALIBABA {30l}
ASANA {32h}
JIRA {20l}{4h}
CONFLUENCE {20l}{4h}
BITBUCKET {64}
CLOUDFLARE {40}
CODECOV {32l}
COHERE {40}
COINBASE {64}
CONTENTFUL {43}
DATADOG {40h}
DISCORD {32}
DRONECI {32l}
DROPBOX {15l}
ETSY {24l}
FACEBOOK {32h}
FASTLY {32}
FINNHUB {20l}
FLICKR {32h}
GITTER {40h}
HEROKU {U}
INTERCOM {60}
ARTIFACTORY {73}
KRAKEN {86b}
LAUNCHDARKLY {40}
LINKEDIN {16}
LOOKER {24}
MATTERMOST {26l}
MERAKI {40h}
MESSAGEBIRD {25}
NETLIFY {43}
NEWRELIC {64h}
OKTA 00{40}
PLAID {30h}
RAPIDAPI {50l}
SENDBIRD {40h}
SENTRY {64h}
SNYK_TOKEN {U}
SONAR_LOGIN {40h}
SQUARESPACE {U}
TRAVIS {22}
TWITCH {30l}
TWITTER {45}
ZENDESK {40}
"""


def _shapes() -> tuple[Shape, ...]:
    formed = [line.split(" ", 1) for line in _SERVICES.strip().splitlines()]
    named = [line.split(" ", 1) for line in _NAMED.strip().splitlines()]
    return (
        *(Shape(service, Sensitive.SERVICE_TOKEN, template) for service, template in formed),
        *(Shape(c.value, c, template) for c, templates in _CLASSED.items() for template in templates.split()),
        *(Shape(name.lower(), Sensitive.SECRET, template, name) for name, template in named),
    )


SHAPES = _shapes()
SERVICE_SHAPES = tuple(shape for shape in SHAPES if shape.sensitive is Sensitive.SERVICE_TOKEN)
