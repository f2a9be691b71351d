"""Texts that come as near to a secret as anything clean does: development defaults, samples of manuals, code, talk in many languages."""

from __future__ import annotations

#: One a line; blank lines and lines that begin with `%` are for the reader.
_LINES = r"""
% passwords of development servers, and samples that vendors document
postgres://postgres:postgres@localhost:5432/postgres
mysql://root:root@127.0.0.1/x
amqp://guest:guest@rabbitmq:5672//
mongodb://admin:admin@mongo:27017
redis://:redis@redis:6379/0
postgresql+asyncpg://user:password@db/app
DATABASE_URL=postgres://app:app@localhost/app
POSTGRES_PASSWORD=postgres
MYSQL_ROOT_PASSWORD=root
MINIO_ROOT_PASSWORD=minioadmin
password: admin
AKIAIOSFODNN7EXAMPLE
aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
export AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE
https://username:password@example.com/path
http://user:pass@host:8080/
https://${USER}:${TOKEN}@git.acme.io/x.git
postgres://{user}:{password}@{host}/{db}
ssh://git@github.com/acme/shop.git
https://registry.acme.io:5000/team/image@sha256:0123
http://mastodon.social:443/@dana
https://medium.com:443/@someone/a-post
% what only looks like an assignment
PublicKeyToken=a88a5c672034fd89
Culture=neutral, PublicKeyToken=b77a5c561934e089
pin = 'GPIO17'
pin: GPIO4
int ledPin = 13;
#define LED_PIN 2
pinMode(LED_BUILTIN, OUTPUT);
pass = "passed"
passes: 12
bypass: true
passport: required
password_min_length = 12
passwordField.type = "password"
<input id="password" placeholder="Password">
<label for="password">Password</label>
"passwordLabel": "Password"
"forgotPassword": "Forgot your password?"
"password": {"type": "string", "minLength": 8}
"password": "string"
"token": "string"
password: Mapped[str] = mapped_column(String(255))
password = models.CharField(max_length=128)
password = forms.CharField(widget=forms.PasswordInput)
password = request.form["password"]
password = request.POST.get("password")
password = input("Password: ")
password = click.prompt("Password", hide_input=True)
password := os.Getenv("DB_PASSWORD")
password := r.FormValue("password")
String password = scanner.nextLine();
const password = await bcrypt.hash(plain, 10);
let password = document.querySelector("#password").value;
$password = $_POST['password'];
password = params[:password]
password=args.password
password=self._password
"password": hash_password(data.password)
if (password === confirm) {
password !== other.password
fields = ["username", "password", "email"]
exclude = ("password", "token")
grant_type="password", scope="openid"
{"grant_type": "password", "scope": "openid profile"}
{"selector": "#username", "text": "dana"}
{"name": "Password", "type": "textbox", "ref": "e12"}
["tool", "--password", "--quiet"]
["--token", "$TOKEN"]
--password-file /run/secrets/db
--token-ttl 3600
--password=<password>
mysql -u root -p shop
curl -u "$USER:$PASS" https://api.acme.io
docker login -u dana --password-stdin
sshpass -e ssh db
echo "$PW" | sudo -S true
ALTER USER app IDENTIFIED BY '<password>';
machine example.com login dana password <password>
| user | password |
| name | type | password |
| field | required |
user,password,email
| max_tokens | 4096 |
| token | meaning |
SECRET_KEY = os.environ["SECRET_KEY"]
SECRET_KEY = env("DJANGO_SECRET_KEY")
SECRET_KEY = get_random_secret_key()
SECRET_KEY = "change-me"
SECRET_KEY = "your-secret-key-here"
SECRET_KEY=${SECRET_KEY}
define( 'AUTH_KEY', 'put your unique phrase here' );
secret_key_base: <%= ENV["SECRET_KEY_BASE"] %>
api_key = config.get("openai", "api_key")
api_key=None
password = os.getenv("DB_PASSWORD", "postgres")
password = os.getenv("DB_PASSWORD", "")
password: process.env.DB_PASSWORD || ''
POSTGRES_PASSWORD=${DB_PASSWORD:-postgres}
${DB_PASSWORD:?not set}
ConvertTo-SecureString $plain -AsPlainText -Force
<key>password</key><string></string>
<key>passwordMode</key><string>k9Wq2LmZ</string>
api_key: str | None = None
apiKey: process.env.API_KEY,
OPENAI_API_KEY=sk-...
OPENAI_API_KEY=sk-your-key-here
ANTHROPIC_API_KEY=<key>
GITHUB_TOKEN: ${{ secrets.GITHUB_TOKEN }}
token: ${{ github.token }}
HF_TOKEN=hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
export GITLAB_TOKEN=glpat-xxxxxxxxxxxxxxxxxxxx
slack_token = "xoxb-your-token"
STRIPE_KEY=sk_test_...
Authorization: Bearer YOUR_TOKEN
Authorization: Bearer {access_token}
Authorization: Basic <credentials>
x-api-key: <your key>
secretKeyRef: {name: db, key: password}
kind: Secret
secretName: tls-cert
imagePullSecrets: [{name: registry}]
"auth": "none"
"auth": "required"
auth: basic
token_endpoint: https://id.acme.io/oauth/token
tokenizer_class: LlamaTokenizerFast
eos_token: "<|im_end|>"
bos_token: "<s>"
special_tokens_map.json
token_type_ids: [0, 0, 1]
num_tokens=2048 new_tokens=512
input_tokens: 1203, output_tokens: 88, cached_tokens: 900
next_page_token: CAUQAA
cursor_token = encode(offset)
csrf_token: {{ csrf_token() }}
CancellationToken cancellationToken = default
cancellationToken: CancellationToken.None
synchronization_token: abc
access_key_id: not set
primary_key=True, unique=True
foreign_key: users.id
public_key: ssh-ed25519
"keyword": "password"
sort_key = lambda row: row["token"]
cache_key = f"user:{user_id}:profile"
storage_key = "theme"
session_key = request.session.session_key
license_key_prefix = "ACME"
key_id: 12
salt_length = 16
salt = os.urandom(16)
salt: 1 tsp
a pinch of salt, 250 g flour
twitter: https://twitter.com/acme
facebook: https://www.facebook.com/acme.shop
linkedin: in/dana-otter-12345
discord: dana#1234
heroku: eu-west, 2 dynos
sentry: 4.2.0
datadog: enabled
linear: y = 3x + 12
okta: groups, apps, users
heroku_app_id: 550e8400-e29b-41d4-a716-446655440000
twitch_user_id: 8f14e45fceea167a5a36dedd4bea25
asana: task 1201234567890123
% talk
The password is case-sensitive.
The password is at least 8 characters long.
Your password is too short.
My password is not working.
The password is stored as a hash.
Which password do you mean?
A token is about four characters.
The secret is out.
The key is under the mat.
pass - 12 tests
PASS src/app.test.js (4.2 s)
pw: see the vault
The PIN is printed on the back.
PIN codes have four digits.
passing 3 arguments to token()
Reset the password, then log in again.
Please choose a passphrase.
密码：至少8位字符
密码必须包含数字
密码8位以上
密码PBKDF2-SHA256加密
请输入密码
密码是必填项
忘记密码了怎么办？
パスワードは8文字以上
パスワードを入力してください
비밀번호를 입력하세요
비밀번호: 필수 항목
Пароль: обязательное поле
Забыли пароль?
Пароль должен быть длиннее 8 символов
La contraseña es obligatoria.
¿Olvidaste tu contraseña?
La clave es la paciencia.
A senha é obrigatória.
Esqueceu a senha?
La password è troppo corta.
Le mot de passe est obligatoire.
Mot de passe oublié ?
Das Passwort ist zu kurz.
Das Passwort lautet anders.
Passwort: mindestens 12 Zeichen
Hasło jest wymagane.
Heslo je povinné.
Şifre en az 8 karakter olmalı.
Mật khẩu là bắt buộc.
Wachtwoord vergeten?
% other look-alikes
Order 4111 of 5000 shipped
left-pad@1.3.0 is installed
npm i react@18.2.0 react-dom@18.2.0
background: url(icon@2x.png)
user@localhost
git@github.com:acme/shop.git
@app.route("/users")
@pytest.mark.parametrize("name", ["a"])
someone@example.com
noreply@acme.io
v1.2.3.4 of the firmware
Chrome/124.0.6367.119
pip install opencv-python==84.8.0.76
opencv>=84.8.0.76
"opencv": "^84.8.0.76"
apt install opencv=84.8.0.76
  - opencv=84.8.0.76
DRIVER_VERSION='84.8.0.76'
pkgver=84.8.0.76
host_version = "84.8.0.76"
Updating opencv 4.8.0.76 -> 84.8.0.78
[assembly: AssemblyVersion("84.8.0.76")]
<Version>84.8.0.76</Version>
https://unpkg.com/react@18.2.0/umd/react.js
https://dana@git.acme.io/team/shop.git
postgres://app@db.acme.io/shop
import x from '/node_modules/left-pad@1.3.0-1/index.js'
see team/shop@main.py
uses: team/action@v4.de
left-pad%401.3.0
foo@2.0.beta-1
sd_IN@devanagari.UTF-8
ping 192.168.1.1
ssh pi@192.168.1.20
ssh root@10.0.0.4
nameserver 8.8.8.8
bind 0.0.0.0:8080
2001:db8::1
fe80::1ff:fe23:4567:890a
12:34:56:78:9a:bc
SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI
-----BEGIN CERTIFICATE-----
-----BEGIN PUBLIC KEY-----
"integrity": "sha1-abc="
sk-cp-the-name-of-a-class-in-a-style-sheet-of-a-shop
csk-the-name-of-another-class
etag: W/"5e1-18c2"
call 12 functions
text 300 words
number 1234567 in the list
tel: n/a
phone: required
00000010: 0049 1712 3456 7890 0044 2012 3456 7890
ids 00491712345678 and 00491712345679
00CC; 0069 0307 0300; 00CC; lt;
step 0099 999 999 9999 of the run
手机 64GB 内存
电话会议 2026-03-02 10:11
IBAN is required
SSN field
card ending in 4242
0xdeadbeef
1.2.840.113549.1.1.11
2026-03-02T10:11:12.123456Z
color: #ff00aa
"""


def hard_negatives() -> tuple[str, ...]:
    """Every such text."""
    return tuple(line for line in _LINES.splitlines() if line and not line.startswith("%"))
