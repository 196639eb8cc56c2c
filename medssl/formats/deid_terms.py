"""The keep-list of de-identified copies: which elements may stay, by what makes a value harmless.

An element that is not named here leaves the copy, wherever it stands. Codes stay only as terms of
the standard (DICOM PS3.3) or of the scanner's own short lists; code sequences, whose meaning is free
text, do not stay.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NUMBERS = _words(
    """
    Rows Columns SamplesPerPixel PlanarConfiguration NumberOfFrames PixelAspectRatio BitsAllocated
    BitsStored HighBit PixelRepresentation SmallestImagePixelValue LargestImagePixelValue
    PixelPaddingValue PixelPaddingRangeLimit LossyImageCompressionRatio FrameIncrementPointer
    RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor
    BluePaletteColorLookupTableDescriptor ExtendedOffsetTable ExtendedOffsetTableLengths
    RescaleSlope RescaleIntercept WindowCenter WindowWidth LUTDescriptor LUTData
    PixelSpacing ImagerPixelSpacing NominalScannedPixelSpacing SliceThickness SpacingBetweenSlices
    SliceLocation ImagePositionPatient ImageOrientationPatient GantryDetectorTilt TableHeight
    EstimatedRadiographicMagnificationFactor SeriesNumber AcquisitionNumber InstanceNumber
    TemporalPositionIdentifier NumberOfTemporalPositions TemporalPositionIndex InStackPositionNumber
    DimensionIndexValues DimensionIndexPointer FunctionalGroupPointer FrameAcquisitionNumber
    FrameAcquisitionDuration FrameTime FrameTimeVector TriggerTime NominalInterval HeartRate
    KVP XRayTubeCurrent XRayTubeCurrentInmA Exposure ExposureInmAs ExposureInuAs ExposureTime
    ExposureTimeInms ExposureTimeInuS DistanceSourceToDetector DistanceSourceToPatient FocalSpots
    GeneratorPower RelativeXRayExposure ExposureIndex TargetExposureIndex DeviationIndex Sensitivity
    BodyPartThickness CompressionForce EntranceDoseInmGy OrganDose PositionerPrimaryAngle
    PositionerSecondaryAngle DetectorElementSpacing DetectorBinning DataCollectionDiameter
    ReconstructionDiameter SpiralPitchFactor SingleCollimationWidth TotalCollimationWidth
    TableSpeed TableFeedPerRotation RevolutionTime CTDIvol TablePosition ReconstructionFieldOfView
    DataCollectionCenterPatient ReconstructionTargetCenterPatient
    RepetitionTime EchoTime EffectiveEchoTime InversionTime FlipAngle NumberOfAverages
    ImagingFrequency EchoNumbers MagneticFieldStrength NumberOfPhaseEncodingSteps EchoTrainLength
    PercentSampling PercentPhaseFieldOfView PixelBandwidth AcquisitionMatrix SAR dBdt
    DiffusionBValue DiffusionGradientOrientation MRAcquisitionFrequencyEncodingSteps
    MRAcquisitionPhaseEncodingStepsInPlane GradientEchoTrainLength RFEchoTrainLength
    RadionuclideTotalDose RadionuclideHalfLife RadionuclidePositronFraction RadiopharmaceuticalVolume
    RadiopharmaceuticalSpecificActivity ActualFrameDuration FrameReferenceTime DecayFactor
    DoseCalibrationFactor ScatterFractionFactor DeadTimeFactor NumberOfSlices NumberOfTimeSlices
    ImageIndex SliceSensitivityFactor AxialAcceptance EnergyWindowLowerLimit EnergyWindowUpperLimit
    NumberOfEnergyWindows NumberOfDetectors NumberOfRotations NumberOfTimeSlots RotationVector
    EnergyWindowVector DetectorVector SliceVector AngularViewVector TimeSlotVector RRIntervalVector
    RegionSpatialFormat RegionDataType RegionFlags RegionLocationMinX0 RegionLocationMinY0
    RegionLocationMaxX1 RegionLocationMaxY1 PhysicalUnitsXDirection PhysicalUnitsYDirection
    PhysicalDeltaX PhysicalDeltaY ReferencePixelX0 ReferencePixelY0 UltrasoundColorDataPresent
    TransducerFrequency MechanicalIndex BoneThermalIndex SoftTissueThermalIndex DepthOfScanField
    ReferencedFrameNumber
    """
)
# Without these the pixels or their places would mean something else.
MEANING = _words(
    """
    RescaleSlope RescaleIntercept WindowCenter WindowWidth PixelSpacing SliceThickness
    SpacingBetweenSlices SliceLocation ImagePositionPatient NumberOfFrames
    """
)
UIDS = _words(
    """
    SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID ReferencedSOPInstanceUID
    DimensionOrganizationUID ConcatenationUID SOPInstanceUIDOfConcatenationSource
    """
)
# Values that the tables of cohort/terms.py decide; they come with the job.
SHARED = _words("Modality ViewPosition BodyPartExamined Manufacturer ManufacturerModelName")
CLASSES = frozenset({"SOPClassUID", "ReferencedSOPClassUID"})
SEQUENCES = _words(
    """
    SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence PixelMeasuresSequence
    PlanePositionSequence PlaneOrientationSequence FrameContentSequence FrameVOILUTSequence
    PixelValueTransformationSequence ModalityLUTSequence VOILUTSequence DimensionIndexSequence
    DimensionOrganizationSequence FrameAnatomySequence MRImageFrameTypeSequence
    CTImageFrameTypeSequence PETFrameTypeSequence MREchoSequence MRDiffusionSequence
    DiffusionGradientDirectionSequence MRTimingAndRelatedParametersSequence MRFOVGeometrySequence
    MRAveragesSequence CTExposureSequence CTGeometrySequence CTReconstructionSequence
    CTTableDynamicsSequence CTAcquisitionDetailsSequence CTXRayDetailsSequence CTPositionSequence
    RadiopharmaceuticalInformationSequence EnergyWindowInformationSequence
    EnergyWindowRangeSequence SequenceOfUltrasoundRegions SourceImageSequence
    ReferencedImageSequence
    """
)
# Times of day stay: decay correction and contrast phases need them, and the day is shifted.
DATES = _words(
    """
    StudyDate SeriesDate AcquisitionDate ContentDate AcquisitionDateTime FrameAcquisitionDateTime
    FrameReferenceDateTime RadiopharmaceuticalStartDateTime RadiopharmaceuticalStopDateTime
    """
)
TIMES = _words("StudyTime SeriesTime AcquisitionTime ContentTime RadiopharmaceuticalStartTime")
BYTES = _words(
    """
    PixelData RedPaletteColorLookupTableData GreenPaletteColorLookupTableData
    BluePaletteColorLookupTableData SegmentedRedPaletteColorLookupTableData
    SegmentedGreenPaletteColorLookupTableData SegmentedBluePaletteColorLookupTableData
    """
)
KINDS = (
    "ORIGINAL|DERIVED|PRIMARY|SECONDARY|MIXED|AXIAL|LOCALIZER|OTHER|NONE|NORMAL|NORM|ND|M|P|R|I|SE|IR|EPI"
    "|MPR|MIP|MINIP|AVERAGE|ADC|TRACEW|DIFFUSION|PERFUSION|PHASE|MAGNITUDE|VOLUME|MOSAIC|WHOLE BODY"
    "|EMISSION|TRANSMISSION|STATIC|DYNAMIC|GATED|TOMO|RECON TOMO|SUBTRACTION|SINGLE PLANE|BIPLANE A"
    "|BIPLANE B|POST_CONTRAST|PORTAL|T1|T2|PROTON_DENSITY|FLAIR|CT_SOM5 SPI|CT_SOM5 TOP|CT_SOM5 SEQ"
)
LATERAL = "R|L|U|B"
TERMS = {
    "ImageType": KINDS,
    "FrameType": KINDS,
    "PresentationIntentType": "FOR PRESENTATION|FOR PROCESSING",
    "PhotometricInterpretation": "MONOCHROME[12]|PALETTE COLOR|RGB|YBR_(FULL|FULL_422|PARTIAL_420|ICT|RCT)",
    "PixelIntensityRelationship": "LIN|LOG|DISP",
    "LossyImageCompression": "00|01",
    "LossyImageCompressionMethod": "ISO_10918_1|ISO_14495_1|ISO_15444_1|ISO_15444_15",
    "BurnedInAnnotation": "YES|NO",
    "RescaleType": "HU|US|OD|MGML|Z_EFF|ED|NORMALIZED",
    "ModalityLUTType": "HU|US|OD|MGML|Z_EFF|ED",
    "VOILUTFunction": "LINEAR|LINEAR_EXACT|SIGMOID",
    "PresentationLUTShape": "IDENTITY|INVERSE|LIN OD",
    "PatientSex": "F|M|O",
    "Laterality": LATERAL,
    "ImageLaterality": LATERAL,
    "FrameLaterality": LATERAL,
    "PatientOrientation": "[ALPRHF]{1,3}",
    "PatientPosition": "HFP|HFS|HFDR|HFDL|FFDR|FFDL|FFP|FFS|LFP|LFS|RFP|RFS",
    "ConvolutionKernel": "STANDARD|SOFT|BONE|BONEPLUS|LUNG|DETAIL|EDGE|[A-Z][a-z]?[0-9]{2}[a-z]?",
    "RotationDirection": "CW|CC",
    "FilterType": "NONE|STRIP|WEDGE|BUTTERFLY|MULTIPLE|FLAT|SHAPED",
    "ExposureModulationType": "NONE|FIXED|AUTO",
    "ScanningSequence": "SE|IR|GR|EP|RM",
    "SequenceVariant": "SK|MTC|SS|TRSS|SP|MP|OSP|NONE",
    "ScanOptions": "PER|RG|CG|PPG|FC|PFF|PFP|SP|FS|AXIAL MODE|HELICAL MODE|SCOUT MODE",
    "MRAcquisitionType": "1D|2D|3D",
    "AngioFlag": "Y|N",
    "InPlanePhaseEncodingDirection": "ROW|COL|COLUMN",
    "DiffusionDirectionality": "DIRECTIONAL|BMATRIX|ISOTROPIC|NONE",
    "PixelPresentation": "COLOR|MONOCHROME|MIXED|TRUE_COLOR",
    "VolumetricProperties": "VOLUME|SAMPLED|DISTORTED|MIXED",
    "VolumeBasedCalculationTechnique": "NONE|MAX_IP|MIN_IP|VOLUME_RENDER|SURFACE_RENDER|MPR",
    "Units": "CNTS|NONE|CM2|PCNT|CPS|BQML|MGMINML|UMOLMINML|MLMING|MLG|1CM|UMOLML|PROPCNTS|PROPCPS|GML",
    "SUVType": "BSA|BW|LBM|LBMJANMA",
    "SeriesType": "STATIC|DYNAMIC|GATED|WHOLE BODY|IMAGE|REPROJECTION",
    "DecayCorrection": "NONE|START|ADMIN",
    "CountsSource": "EMISSION|TRANSMISSION",
    "StackID": "[0-9]{1,4}",
}  # fmt: skip
AGES = frozenset({"PatientAge"})
KEEP = NUMBERS | UIDS | CLASSES | SEQUENCES | DATES | TIMES | BYTES | SHARED | AGES | set(TERMS)
NEEDED = _words(
    """
    SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID Rows Columns BitsAllocated
    BitsStored PixelRepresentation PhotometricInterpretation PixelData
    """
)
EMPTY = _words("PatientName PatientBirthDate ReferringPhysicianName StudyID AccessionNumber")
EMPTY_IF_ABSENT = _words("PatientSex StudyDate StudyTime")
IDENTIFIERS = _words(
    "PatientID OtherPatientIDs PatientName PatientBirthDate AccessionNumber StudyID"
)
