"""SIP: the trainer, its options, what is made of candidates, who is asked, losses, what is logged; a file each."""

from ixt_rl.trainers.sip.config import SIPConfig
from ixt_rl.trainers.sip.groups import Proposed
from ixt_rl.trainers.sip.objectives import Example
from ixt_rl.trainers.sip.trainer import SIPTrainer

__all__ = ["Example", "Proposed", "SIPConfig", "SIPTrainer"]
