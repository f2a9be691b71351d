"""What programs print and take that holds a value: `@` in each is the value."""

from __future__ import annotations

ASSIGNED_ADDRESSES = (
    "DB_HOST=@",
    'host = "@"',
    "export IP=@",
    "client=@ status=200",
    "GET /lookup?ip=@&full=1",
    "shop.acme-prod.io: A record -> @",
    "'host' => '@'",
    "clientIp=@",
    "ansible_host=@",
    "X=@",
    "<td>@</td>",
    "if peer == '@':",
)
PRINTED_TABLES = (
    " usename |  password   | host\n---------+-------------+------\n ida     | @ | db\n(1 row)\n",
    "+------+-----------+\n| user | password  |\n+------+-----------+\n| ida  | @ |\n+------+-----------+\n",
    "┌──────┬──────────┐\n│ user │ password │\n├──────┼──────────┤\n│ ida  │ @ │\n└──────┴──────────┘\n",
    "NAME   PASSWORD         AGE\nida    @    3d\n",
    "user   password\n-----  ----------------\nida    @\n",
    "   user  password        note\n0  leo   none            x\n1  ida   @    y\n",
    '{"columns": ["user", "password"], "rows": [["leo", null], ["ida", "@"]]}',
    '{"columns": [{"name": "user"}, {"name": "password"}], "data": [["ida", "@"]]}',
    '"user","password"\n"ida","@"\n',
)
ADDRESSES_IN_PATHS = (
    "GET /users/@ HTTP/1.1",
    "https://api.acme-prod.io/users/@/orders",
    "saved @-1.png",
    "@_17",
    "backup/@_17.tar",
)
ENCODED_ADDRESSES = ("GET /?mail=@&x=1", "mailto:@", "user @ logged in", "https://api.acme-prod.io/users/@")
NATIONAL_CALLS = ("Fon @", "Fon: @", "Rufnummer @", "Meine Rufnummer ist @.")
FOREIGN_CALLS = ("@", "Ruf mich an: @", "ring @ please", "Tel.: @")
CHINESE_CALLS = ("手机号 @", "电话：@", "手机：@", "我的电话是@。", "联系方式: @")
DEFAULT_PASSWORDS = (
    'DB_PASSWORD = os.getenv("DB_PASSWORD", "@")',
    'password = os.getenv("APP_LOGIN", "@")',
    "password: process.env.DB_PASSWORD || '@'",
    "'password' => env('DB_PASSWORD', '@')",
    "PGPASSWORD=${DB_PASSWORD:-@}",
    'ConvertTo-SecureString "@" -AsPlainText -Force',
    "ConvertTo-SecureString -String '@' -AsPlainText",
    "<key>password</key>\n\t<string>@</string>",
    "<name>password</name><value>@</value>",
    "\x1b[36mpassword\x1b[0m=\x1b[32m@\x1b[0m",
)
EAST_ASIAN_PASSWORDS = ("密码@", "数据库密码@，请保密", "パスワード@です", "비밀번호@")
