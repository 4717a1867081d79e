"""The command line of identity: `yangfan org …` for those who run the hub."""

import secrets

import click

from identity import audit, entrance, organizations, passwords, sessions, users
from kernel.database import EVERY, reading, transaction
from kernel.errors import Problem


class _Words(click.Group):
    """Says our own refusals in one line instead of a trace."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except Problem as problem:
            raise click.ClickException(problem.plain()) from problem


@click.group(cls=_Words)
def org() -> None:
    """机构与账号 Organizations and accounts."""


@org.command("create")
@click.argument("name")
@click.option("--email", required=True, help="所有者的邮箱 The owner's e-mail.")
@click.option("--owner", "owner_name", required=True, help="所有者的姓名 The owner's name.")
@click.option("--password", default=None, help="不填则自动生成 Made up when left out.")
def create(name: str, email: str, owner_name: str, password: str | None) -> None:
    """新建机构与所有者 Create an organization and its owner."""
    chosen = password or secrets.token_urlsafe(12)
    made, _ = entrance.sign_up(
        entrance.Visitor(""),
        organization_name=name,
        email=email,
        name=owner_name,
        password=chosen,
    )
    click.echo(f"{made.organization.id}\t{made.user.email}")
    if password is None:
        click.echo(f"密码 password: {chosen}")


@org.command("list")
def list_all() -> None:
    """列出所有机构 List every organization."""
    with reading(EVERY) as session:
        for found in organizations.list_all(session):
            marks = [
                m for m, on in (("vendor", found.is_vendor), ("operator", found.is_operator)) if on
            ]
            click.echo("\t".join([found.id, found.name, ",".join(marks) or "-"]))


@org.command("make-vendor")
@click.argument("organization_id")
@click.option("--undo", is_flag=True, help="取消 Take it back.")
def make_vendor(organization_id: str, undo: bool) -> None:  # noqa: FBT001 - click passes it by name
    """设为服务商 Let an organization publish apps."""
    _set_kind(organization_id, is_vendor=not undo)


@org.command("make-operator")
@click.argument("organization_id")
@click.option("--undo", is_flag=True, help="取消 Take it back.")
def make_operator(organization_id: str, undo: bool) -> None:  # noqa: FBT001 - click passes it by name
    """设为平台运营方 Let an organization run the hub."""
    _set_kind(organization_id, is_operator=not undo)


@org.command("reset-password")
@click.argument("email")
def reset_password(email: str) -> None:
    """重置密码并退出所有登录 Give a person a new password and end all their sessions."""
    chosen = secrets.token_urlsafe(12)
    digest = passwords.hash_password(chosen)
    with transaction(EVERY) as session:
        user = users.find_by_email(session, email)
        if user is None:
            raise click.ClickException("没有这个账号 There is no such account.")
        users.set_password(session, user.id, digest)
        sessions.end_all(session, user.id)
        for organization, _ in organizations.list_of_user(session, user.id):
            audit.record(session, None, "password.reset", user.id, organization_id=organization.id)
    click.echo(f"新密码 new password: {chosen}")


@org.command("close-account")
@click.argument("email")
@click.option("--undo", is_flag=True, help="重新开放 Open it again.")
def close_account(email: str, undo: bool) -> None:  # noqa: FBT001 - click passes it by name
    """停用账号：退出所有登录，密钥失效 Close a person's account; sessions and keys stop."""
    with transaction(EVERY) as session:
        user = users.find_by_email(session, email)
        if user is None:
            raise click.ClickException("没有这个账号 There is no such account.")
        users.disable(session, user.id, is_disabled=not undo)
        sessions.end_all(session, user.id)
        action = "account.opened" if undo else "account.closed"
        for organization, _ in organizations.list_of_user(session, user.id):
            audit.record(session, None, action, user.id, organization_id=organization.id)
    click.echo(f"{user.id}\t{user.email}")


def _set_kind(organization_id: str, **kind: bool) -> None:
    with transaction(EVERY) as session:
        found = organizations.set_kind(session, organization_id, **kind)
        audit.record(
            session,
            None,
            "organization.kind_changed",
            found.id,
            organization_id=found.id,
            detail=kind,
        )
    click.echo(f"{found.id}\t{found.name}")
