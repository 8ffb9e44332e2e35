import sys
sys.path.insert(0, "/tmp")
from sareq_default import DefaultRequirements as Requirements
