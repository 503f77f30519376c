"""Raw values of the attributes that have a binary format: POSIX ACLs and file capabilities."""

from __future__ import annotations

import struct

ACL_ACCESS = "system.posix_acl_access"
ACL_DEFAULT = "system.posix_acl_default"
CAPABILITY = "security.capability"

_ACL_VERSION = 2
_ACL_NO_ID = 0xFFFFFFFF
_ACL_TAGS = {("u", False): 0x01, ("u", True): 0x02, ("g", False): 0x04, ("g", True): 0x08}
_ACL_TAGS |= {("m", False): 0x10, ("o", False): 0x20}
_PERMISSIONS = {"r": 4, "w": 2, "x": 1}
_CAP_REVISION_2 = 0x02000000


def acl(text: str) -> bytes:
    """Encode an ACL as the kernel takes it.

    Args:
        text: entries as setfacl takes them, ids as numbers: "u::rw-,u:1:r--,g::r--,m::r--,o::---".

    Source: include/uapi/linux/posix_acl_xattr.h
    """
    return struct.pack("<I", _ACL_VERSION) + b"".join(
        struct.pack("<HHI", tag, permissions, number)
        for tag, number, permissions in sorted(map(_acl_entry, text.split(",")))
    )


def _acl_entry(text: str) -> tuple[int, int, int]:
    who, name, letters = text.split(":")
    permissions = sum(bit for letter, bit in _PERMISSIONS.items() if letter in letters)
    return _ACL_TAGS[who, bool(name)], int(name) if name else _ACL_NO_ID, permissions


def capability(permitted: int, *, effective: bool = True) -> bytes:
    """Encode a file capability, revision 2.

    Args:
        permitted: bits by capability number (1 << 10 is CAP_NET_BIND_SERVICE), below 32.
        effective: whether the program starts with them raised.

    Source: struct vfs_cap_data in include/uapi/linux/capability.h
    """
    return struct.pack("<5I", _CAP_REVISION_2 | effective, permitted, 0, 0, 0)
