"""What a value stands in: prose, configuration, code, logs, chat. `@` is the value, `#` the name it goes by."""

from __future__ import annotations

from shared.redaction.sensitive import Sensitive

#: For values that speak for themselves, whatever stands around.
ANYWHERE = (
    "I pasted @ into the form, can you check it?",
    "Sure - use @ and delete it afterwards.",
    "#=@",
    "export #=@\nmake deploy",
    "# settings\n#: @\nregion: eu-west-1\n",
    'services:\n  api:\n    environment:\n      #: "@"\n',
    '{"#": "@", "retries": 3}',
    "curl -sS https://api.example.com/v1/items -d key=@ | jq .",
    "2026-03-02T10:11:12Z WARN client rejected value=@ attempt=2",
    "[10:11] dana: here it is: @\n[10:12] lee: thanks!",
    "## Setup\n\n- region: `eu-west-1`\n- value: `@`\n",
    '#  = "@"\nclient = Client(#)',
    "const client = new Client('@');",
    "Line one.\n\n@\n\nLast line.",
    "(@)",
    "<item>@</item>",
    "| name | value |\n|---|---|\n| prod | @ |",
)
#: What a name is written in front of: the value alone says nothing.
NAMED = (
    "#=@",
    "export #=@",
    '# = "@"',
    "#: @",
    "#: '@'",
    '{"#": "@"}',
    '{"user": "dana", "#": "@", "port": 5432}',
    "self.# = '@'",
    'client = Client(host="db", #="@")',
    "config['#'] = '@'",
    'os.environ["#"] = "@"',
    "const # = `@`;",
    'val # := "@"',
    "spec:\n  #: @\n  region: eu\n",
    "<#>@</#>",
    "[section]\n# = @\n",
    "2026-03-02 10:11:12 DEBUG connect #=@ host=db",
)
PASSWORD_SAID = (
    "The password is @ and do not tell anyone.",
    "password: @",
    "login dana, password @".replace("password ", "password: "),
    "pw: @",
    "Das Passwort lautet @",
    "mysql -u root --password=@ shop",
    "deploy --password '@' --host db",
    "mysql -u root -p@ shop",
    "sshpass -p '@' ssh -l root db",
    "curl -u dana:@ https://api.example.com/v1",
    "ALTER USER app IDENTIFIED BY '@';",
    "The password for the router is @",
    "Password (admin): @",
    "password: |\n  @\n",
    "user=dana&password=@&remember=1",
    'My wifi password is "@".',
    "**Password:** @",
    "user: dana\npass: @\n",
    "Passphrase: @",
)
SECRET_SAID = (
    "The API key is @ for now.",
    "my token is @",
    "API key: @",
    "login --token @ --quiet",
    "mycli --api-key=@",
    "client secret: `@`",
    "**Token:** @",
    "GET https://api.example.com/v1?api_key=@&page=2",
    "Set-Cookie: sessionid=@; Path=/; HttpOnly",
)
HEADERS = (
    'curl -H "Authorization: Bearer @" https://api.example.com/v1',
    "Authorization: Bearer @",
    "authorization: token @",
    "headers = {'Authorization': 'Bearer @'}",
    '{"headers": {"Authorization": "Bearer @", "Accept": "*/*"}}',
    "GET /v1 HTTP/1.1\nHost: api.example.com\nAuthorization: Basic @\n",
    'req.Header.Set("Authorization", "Bearer @")',
    "10:11:12 DEBUG sent header Authorization: Bearer @ in 12 ms",
)
URLS = (
    "DATABASE_URL=postgres://app:@@db.acme-prod.io:5432/shop",
    "mongodb://root:@@mongo:27017/admin",
    "redis://:@@cache:6379/0",
    "git clone https://dana:@@git.acme-prod.io/team/repo.git",
    'engine = create_engine("postgresql+asyncpg://app:@@localhost/shop")',
    "amqp://worker:@@rabbit:5672//",
    "The broker is at mqtt://home:@@hub.acme-prod.io, port 1883.",
    "url: https://admin:@@router.acme-prod.io/status\n",
)
AZURE = (
    "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=@;EndpointSuffix=core.windows.net",
    'conn = "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=@"',
    "AZURE_STORAGE_CONNECTION_STRING='AccountName=shop;AccountKey=@;'",
)
AWS = (
    "AWS_SECRET_ACCESS_KEY=@",
    "[default]\naws_access_key_id = none\naws_secret_access_key = @\n",
    '{"SecretAccessKey": "@"}',
    'boto3.client("s3", aws_secret_access_key="@")',
    "The AWS secret access key is @, for the backup user.",
    "aws configure set aws_secret_access_key @",
    "  awsSecretKey: '@'",
)
IDS = ("My # is @.", "#: @", "| # | @ |", '{"#": "@"}', "# @ (from the letter)", "Please note the #, it is @, thanks.")
SSNS = ("SSN: @", "My social security number is @.", '{"ssn": "@"}', "applicant @ approved", "| Dana | @ |")
CALLS = (
    "Call me at @ tomorrow.",
    "Tel.: @",
    "phone: @",
    "mobile @",
    '{"phone": "@"}',
    "My number is @, ring twice.",
    "WhatsApp: @",
    "Handy: @",
)
ADDRESSES = (
    '@ - - [02/Mar/2026:10:11:12 +0000] "GET / HTTP/1.1" 200 512',
    "ssh root@@".replace("root@@", "-l root @"),
    "The server's address is @ now.",
    "Failed password for root from @ port 22 ssh2",
    "host: @\n",
    "ping -c 1 @",
    '{"client_ip": "@", "status": 200}',
    "inet @/24 scope global eth0",
    "allow @;",
    "Blocked @ after five tries.",
)
PERSONAL = (
    "Please send it to @ today.",
    "@",
    "value: @\n",
    '{"value": "@", "n": 3}',
    "[10:11] dana: it is @ btw",
    "- first\n- @\n- last",
    "2026-03-02 10:11:12 INFO got @ from form",
    "contact = '@'",
    "Is @ right?",
    "(@)",
    "| Dana | @ |",
    "From: Dana <@>",
)

PASSWORD_NAMES = (
    "password",
    "DB_PASSWORD",
    "passwd",
    "db_pass",
    "POSTGRES_PASSWORD",
    "smtpPassword",
    "admin_pwd",
    "PASSPHRASE",
    "rootPassword",
)
SECRET_NAMES = (
    "api_key",
    "API_TOKEN",
    "client_secret",
    "SECRET_KEY",
    "accessToken",
    "auth_token",
    "encryption_key",
    "apiKey",
    "webhook_secret",
    "X-Api-Key",
    "signing_key",
)
PLAIN_NAMES = ("value", "DEPLOY_INPUT", "current", "input_1", "SETTING")

CARRIERS = {
    Sensitive.PASSWORD: (*NAMED, *PASSWORD_SAID),
    Sensitive.SECRET: (*NAMED, *SECRET_SAID),
    Sensitive.AUTHORIZATION: HEADERS,
    Sensitive.URL_PASSWORD: URLS,
    Sensitive.AZURE_STORAGE_KEY: AZURE,
    Sensitive.AWS_SECRET_ACCESS_KEY: AWS,
    Sensitive.NATIONAL_ID: IDS,
    Sensitive.SSN: SSNS,
    Sensitive.IP_ADDRESS: ADDRESSES,
    Sensitive.EMAIL: PERSONAL,
    Sensitive.CARD: PERSONAL,
    Sensitive.IBAN: PERSONAL,
    Sensitive.WALLET: PERSONAL,
    Sensitive.PHONE: PERSONAL,
}
NAMES = {Sensitive.PASSWORD: PASSWORD_NAMES, Sensitive.SECRET: SECRET_NAMES}
