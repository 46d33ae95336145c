"""Approvals that outlive a process: interrupted runs are kept, decided by anybody who may, and go on anywhere, once."""

from lamella.engine.approval_settings import ApprovalSettings
from lamella.engine.approvals.records import ApprovalRecord, AuditEntry, Decision, Step
from lamella.engine.approvals.tokens import TokenClaims

__all__ = ['ApprovalRecord', 'ApprovalSettings', 'AuditEntry', 'Decision', 'Step', 'TokenClaims']
